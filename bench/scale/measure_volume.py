"""What a turn asks of the volume: calls of each kind, synced writes, bytes that stay; and how long a folder with very
many sessions takes to find one. Linux, with `strace`."""

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path

from bench.scale.figures import Figure, rounded
from bench.scale.measure_turns import KINDS, Measured
from bench.world import Sides, World, fresh

#: opening a folder, and looking at names, is what a client of a network file system answers from its cache
CALLS = {
    "open": ("open", "openat", "openat2"),
    "stat": ("stat", "fstat", "lstat", "newfstatat", "statx"),
    "lock": ("flock",),
    "read": ("read", "pread64", "readv", "preadv"),
    "write": ("write", "pwrite64", "writev"),
    "sync": ("fsync", "fdatasync"),
    "name": ("mkdir", "mkdirat", "rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat"),
    "list": ("getdents64",),
    "close": ("close",),
    "truncate": ("ftruncate",),
}
FOLDER = "folder"  #: of those that open, the ones that open a folder
KINDS_OF_CALLS = (*CALLS, FOLDER)
OF = {name: kind for kind, names in CALLS.items() for name in names}
CALL = re.compile(r"^(?:\d+\s+)?([a-z0-9_]+)\((.*)$")
FOLDER_FLAGS = re.compile(r"\bO_(DIRECTORY|PATH)\b")
TURNS = 20
FOLDERS = 256
LOOKUPS = 2_000


async def operations(world: World) -> Measured:
    """Calls on the data directory for each kind of turn of a session that lives already, and its bytes."""
    found: dict[str, Figure] = {}
    async with world.sides(floors=0) as both:
        for kind, text in KINDS.items():
            key = fresh("volume")
            for _ in range(3):
                await both.turn(key, text)
            before = _bytes(world.volume.path_of(key))
            calls = await _traced(both.workers[0].pid, world, _turns(both, key, text))
            after = _bytes(world.volume.path_of(key))
            how = f"strace of the worker, mean of {TURNS} turns"
            for name in KINDS_OF_CALLS:
                found[f"{kind}.volume_{name}"] = Figure(rounded(calls[name] / TURNS), "calls", how)
            found[f"{kind}.volume_bytes"] = Figure(rounded((after - before) / TURNS), "B", f"growth over {TURNS} turns")
        key = fresh("new")
        await both.turn(key)
        entries = list(world.volume.path_of(key).rglob("*"))
        found["session.entries"] = Figure(1 + len(entries), "files and folders", "a session after its first plain turn")
    return found, {}


async def _turns(both: Sides, key: str, text: str) -> None:
    for _ in range(TURNS):
        await both.turn(key, text)


async def _traced(pid: int, world: World, work: Awaitable[None]) -> Counter[str]:
    """Run it under strace; count the worker's calls whose file or handle lies on the volume."""
    log = world.folder / f"strace-{time.monotonic_ns()}"
    calls = ",".join(f"?{name}" for name in OF)  # `?`: not every system has each
    tracer = await asyncio.create_subprocess_exec(
        "strace", "-f", "-y", "-s", "0", "-e", f"trace={calls}", "-o", str(log), "-p", str(pid),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert tracer.stderr is not None
    async with asyncio.timeout(20):
        while b"attached" not in (line := await tracer.stderr.readline()):
            assert line, "strace cannot attach"
    await work
    tracer.terminate()
    await tracer.communicate()
    return count(log.read_text(errors="replace"), str(world.data_dir))


def count(trace: str, folder: str) -> Counter[str]:
    """Calls by kind whose first handle or path is below the folder; unfinished ones once."""
    found: Counter[str] = Counter()
    for line in trace.splitlines():
        matched = CALL.match(line.strip())
        if matched and matched[1] in OF and folder in matched[2].partition(" = ")[0]:
            kind = OF[matched[1]]
            found[FOLDER if kind == "open" and FOLDER_FLAGS.search(matched[2]) else kind] += 1
    return found


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def folders(world: World) -> Measured:
    """Opening a session by name in one of 256 folders, with as many in it as 10 thousand, 1 million and 100 million
    sessions put there. Names that the kernel has in its cache."""
    found: dict[str, Figure] = {}
    for label, sessions in (("10_thousand", 10_000), ("1_million", 1_000_000), ("100_million", 100_000_000)):
        entries = sessions // FOLDERS
        took = await asyncio.to_thread(_lookups, entries)
        how = f"{entries:,} names in one folder, local disk, p50 of {LOOKUPS}"
        found[f"folder.{label}.open_s"] = Figure(rounded(took), "s", how)
    return found, {}


def _lookups(entries: int) -> float:
    folder = Path(tempfile.mkdtemp(prefix="bench-folder-"))
    try:
        names = [f"k-{hashlib.sha256(str(at).encode()).hexdigest()}" for at in range(entries)]
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        for name in names:
            os.mknod(name, dir_fd=handle)
        took = list[float]()
        for at in range(min(LOOKUPS, entries)):
            began = time.perf_counter()
            os.close(os.open(names[at * entries // LOOKUPS % entries], os.O_RDONLY, dir_fd=handle))
            took.append(time.perf_counter() - began)
        os.close(handle)
        return sorted(took)[len(took) // 2]
    finally:
        shutil.rmtree(folder)

"""Work on what comes from outside in a child process with limits (I11): a regular expression of 27 bytes
can hold an interpreter for seconds, and a page can be built to choke its parser.

The child has a scrubbed environment, a limit on processor time, memory and output, and a time-out; it
writes no file, and is killed with its group at time-out and at cancel. A worker that is killed takes it
along (`limited_start.py`). It is no sandbox for strangers' programs: the child runs our code, or ripgrep.
"""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

START = Path(__file__).parent / "limited_start.py"
ENVIRONMENT = ("PATH", "LANG")  #: all that the child sees of ours
CHUNK_BYTES = 64 * 1024
ERROR_BYTES = 8 * 1024


class LimitedError(Exception):
    """The child came to no result; the message says why, and reads on after "it"."""


@dataclass(frozen=True)
class Limits:
    """What a child may use."""

    wall_s: float = 20.0
    cpu_s: int = 10
    memory_bytes: int = 1024 * 1024 * 1024
    output_bytes: int = 4 * 1024 * 1024


@dataclass(frozen=True)
class Finished:
    """A child that ended by itself, or had printed all that it may (`cut`)."""

    code: int
    output: bytes
    errors: str
    cut: bool


async def run_script(
    script: Path, *arguments: str, given: bytes, limits: Limits, folder: int | None = None
) -> Finished:
    """Run one of our own scripts. Errors: LimitedError, also with what the script said when it failed."""
    done = await run_limited([sys.executable, "-I", str(script), *arguments], given=given, limits=limits, folder=folder)
    if done.code and not done.cut:
        raise LimitedError(done.errors.strip().rpartition("\n")[2] or f"ended with code {done.code}")
    return done


async def run_limited(
    command: list[str],
    *,
    given: bytes | int,
    limits: Limits,
    folder: int | None = None,
    keep: tuple[int, ...] = (),
    confined: bool = False,
) -> Finished:
    """Run a command (an absolute path) in the folder of a handle; `given` is its standard input, bytes or a
    descriptor; `keep` are descriptors that it inherits. `confined`: where the system can (Landlock), it
    opens nothing to read but what these handles lead to. Errors: LimitedError."""
    handles = (*keep,) if folder is None else (folder, *keep)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(START), str(os.getpid()), "-" if folder is None else str(folder),
            str(limits.cpu_s), str(limits.memory_bytes),
            ",".join(map(str, handles)) if confined and handles else "-", *command,
            stdin=given if isinstance(given, int) else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
            pass_fds=handles, start_new_session=True, cwd="/",
        )  # fmt: skip
    except OSError as error:
        raise LimitedError(f"could not be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(limits.wall_s):
            done = await _talk(process, b"" if isinstance(given, int) else given, limits.output_bytes)
    except TimeoutError:
        raise LimitedError(f"took longer than {limits.wall_s:g} s") from None
    finally:
        _kill(process)
        with suppress(asyncio.CancelledError):
            await asyncio.shield(process.wait())
    _raise_for(done, limits)
    return done


async def _talk(process: asyncio.subprocess.Process, given: bytes, limit: int) -> Finished:
    assert process.stdout is not None
    assert process.stderr is not None
    (output, cut), (errors, _), _ = await asyncio.gather(
        _read(process.stdout, limit, process), _read(process.stderr, ERROR_BYTES, None), _feed(process, given)
    )
    return Finished(await process.wait(), output, errors.decode("utf-8", "replace"), cut)


async def _read(
    stream: asyncio.StreamReader, limit: int, owner: asyncio.subprocess.Process | None
) -> tuple[bytes, bool]:
    """At most `limit` bytes. What is more is dropped; with an owner, that is killed instead."""
    kept = bytearray()
    cut = False
    while data := await stream.read(CHUNK_BYTES):
        cut = cut or len(kept) + len(data) > limit
        kept += data[: limit - len(kept)]
        if cut and owner is not None:
            _kill(owner)
    return bytes(kept), cut


async def _feed(process: asyncio.subprocess.Process, given: bytes) -> None:
    if process.stdin is None:
        return
    with suppress(ConnectionError):  # it need not read all of it
        process.stdin.write(given)
        await process.stdin.drain()
    process.stdin.close()


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _raise_for(done: Finished, limits: Limits) -> None:
    if done.code == -signal.SIGXCPU:
        raise LimitedError(f"used more than {limits.cpu_s} s of processor time")
    if "MemoryError" in done.errors or "memory allocation of" in done.errors:
        raise LimitedError(f"needed more than {limits.memory_bytes >> 20} MiB of memory")
    if done.code < 0 and not done.cut:
        raise LimitedError(f"was ended by signal {-done.code}")

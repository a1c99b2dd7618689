"""What NFS does to our transcripts, seen on a real NFSv4 server and two machines that mount it: `make nfs`.

Prints a record for docs/operations/volumes.md. About ten minutes; the machines are emulated, so times are long.
"""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from agent_session.ops.doctor.volume_pair import problem_of
from agent_session.transcript.volume import Volume
from scripts.nfs_machines import CACHE, LEASE_S, Guest, Server, build_code, build_image, lacking

SHARE = CACHE / "share"
PYTHON = "cd /code && PYTHONPATH=/code PYTHONDONTWRITEBYTECODE=1 python3"
HOLD = (
    "import fcntl, os, sys, time; d = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); "
    "fcntl.flock(d, fcntl.LOCK_EX); print('held', flush=True); time.sleep(600)"
)
TAKE = (
    "import fcntl, os, sys, time; d = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); b = time.monotonic()\n"
    "while True:\n"
    "  try: fcntl.flock(d, fcntl.LOCK_EX | fcntl.LOCK_NB); break\n"
    "  except BlockingIOError: time.sleep(0.1)\n"
    "  if time.monotonic() - b > float(sys.argv[2]): print('never'); sys.exit()\n"
    "print(round(time.monotonic() - b, 1))"
)

LATE = (
    "import fcntl, os, sys, time; d = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_APPEND)\n"
    "fcntl.flock(d, fcntl.LOCK_EX); open(sys.argv[1] + '-held', 'w').close(); time.sleep(8)\n"
    "try: os.write(d, b'late'); os.fsync(d); print('let through')\n"
    "except OSError as error: print('refused:', error.strerror)"
)
LOOK = (
    "import orjson, sys\n"
    "from dataclasses import asdict\n"
    "from pathlib import Path\n"
    "from agent_session.ops.doctor.volume import file_checks, mount_checks, mount_of, scratch\n"
    "root = Path(sys.argv[1]); mount = mount_of(root)\n"
    "with scratch(root) as folder:\n"
    "  for one in (*mount_checks(mount), *file_checks(folder, mount)): print(orjson.dumps(asdict(one)).decode())\n"
)


class Lab:
    def __init__(self, server: Server, one: Guest, two: Guest) -> None:
        self.server, self.one, self.two = server, one, two
        self.bad = 0

    def say(self, words: str, *, good: bool = True) -> None:
        self.bad += not good
        print(f"- {'' if good else 'FAILED: '}{words}", flush=True)

    def findings(self, output: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        for one in found:
            todo = f" (do: {one['todo']})" if one["todo"] else ""
            print(f"    {one['result']:8} {one['check']}: {one['words']}{todo}", flush=True)
        return found

    def folder(self, name: str) -> Path:
        path = SHARE / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        Volume(path).initialise()
        return path

    def writer(self, guest: Guest, name: str, writer: str, lines: int, within_s: float) -> "asyncio.Future[Any]":
        command = f"{PYTHON} scripts/nfs_writer.py /m/{name} {writer} {lines} {within_s}"
        return guest.start(command, within_s + 240)


async def one_host(lab: Lab) -> None:
    """The whole volume check, on one machine."""
    done = await lab.one.start(f"{PYTHON} -m agent_session.ops.doctor.alone /m", 300)
    found = lab.findings(done["out"])
    lab.say(f"doctor --volume on one host: {_counts(found)}", good=done["code"] == 0 and len(found) >= 11)
    left = [name for name in os.listdir(SHARE) if name.startswith((".doctor", ".nfs"))]
    lab.say(f"left behind: {left or 'nothing'}", good=not left)


async def two_hosts(lab: Lab) -> None:
    """The same between two machines."""
    command = f"{PYTHON} -m agent_session.ops.doctor.alone /m --with-peer 90"
    first, second = await asyncio.gather(lab.one.start(command, 400), lab.two.start(command, 400))
    found = lab.findings(first["out"])
    same = len(found) == len([line for line in second["out"].splitlines() if line.startswith("{")])
    good = (first["code"], second["code"]) == (0, 0) and len(found) >= 9 and same
    lab.say(f"doctor --volume --with-peer on two hosts: {_counts(found)}; both say the same: {same}", good=good)


async def server_restart(lab: Lab) -> None:
    """Both hosts append; the server is killed in the middle and started again."""
    folder = lab.folder("restart")
    a, b = lab.writer(lab.one, "restart", "a", 300, 180), lab.writer(lab.two, "restart", "b", 300, 180)
    await _until(lambda: _lines(folder) > 60)
    since = time.monotonic()
    await lab.server.kill()
    await asyncio.sleep(2)
    await lab.server.start()
    before = _lines(folder)
    await _until(lambda: _lines(folder) > before + 2 or (a.done() and b.done()))
    away = time.monotonic() - since
    _judge(
        lab,
        folder,
        await _both(a, b),
        f"server killed in mid-append, back after 2 s: appends went on after {away:.0f} s",
    )


async def paused_host(lab: Lab) -> None:
    """A machine is paused in mid-append for longer than its lease, and wakes."""
    folder = lab.folder("paused")
    a, b = lab.writer(lab.one, "paused", "a", 300, 150), lab.writer(lab.two, "paused", "b", 300, 150)
    await _until(lambda: _lines(folder) > 60)
    lab.two.signal(signal.SIGSTOP)
    since, before = time.monotonic(), _lines(folder)
    await asyncio.sleep(LEASE_S + 15)
    meanwhile = _lines(folder) - before
    lab.two.signal(signal.SIGCONT)
    words = f"a host paused in mid-append for {time.monotonic() - since:.0f} s (lease {LEASE_S} s), then woken"
    _judge(lab, folder, await _both(a, b), f"{words}; the other wrote {meanwhile} lines meanwhile")


async def late_write(lab: Lab) -> None:
    """A machine is paused while it holds a lock, loses it to another, wakes and writes."""
    late = lab.two.start(f"{PYTHON} -c {_quoted(LATE)} /m/late", 600)
    await _until((SHARE / "late-held").exists)
    lab.two.signal(signal.SIGSTOP)
    since = time.monotonic()
    taken = (await lab.one.run(f"{PYTHON} -c {_quoted(TAKE)} /m/late 120", 180)).strip()
    took = time.monotonic() - since
    lab.two.signal(signal.SIGCONT)
    said = (await late)["out"].strip()
    words = f"a host paused under a lock: another has it after {took:.0f} s (lease {LEASE_S} s)"
    there = b"late" in (SHARE / "late").read_bytes()
    good = taken != "never" and said.startswith("refused") and not there
    lab.say(f"{words}; what the first writes when it wakes is {said}", good=good)


async def dead_host(lab: Lab) -> None:
    """A machine's power fails while it holds a lock."""
    path = "/m/dead-host"
    lab.two.start(f"{PYTHON} -c {_quoted(HOLD)} {path}", 600)
    await asyncio.sleep(5)
    before = (await lab.one.run(f"{PYTHON} -c {_quoted(TAKE)} {path} 1")).strip()
    await lab.two.kill()
    since = time.monotonic()
    after = (await lab.one.run(f"{PYTHON} -c {_quoted(TAKE)} {path} 120", 180)).strip()
    took = time.monotonic() - since
    words = f"a host's power fails under a lock: another gets it before: {before}, after: {took:.0f} s later"
    lab.say(f"{words} (lease {LEASE_S} s)", good=before == "never" and after != "never")


async def beside_the_server(lab: Lab) -> None:
    """Somebody uses the exported folder on the server itself, past NFS."""
    path = SHARE / "beside"
    lab.one.start(f"{PYTHON} -c {_quoted(HOLD)} /m/beside", 60)
    await asyncio.sleep(5)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lab.say("flock on the server's own file system does NOT see a lock taken over NFS: never mix the two")
    except BlockingIOError:
        lab.say("flock on the server's own file system sees a lock taken over NFS")
    finally:
        os.close(descriptor)


async def bad_mounts(lab: Lab) -> None:
    """Mount options that doctor must name."""
    for options in ("soft", "nocto", "actimeo=120", "noac"):
        await lab.one.mount(options, "/bad")
        done = await lab.one.start(f"{PYTHON} -c {_quoted(LOOK)} /bad", 300)
        found = [json.loads(line) for line in done["out"].splitlines()]
        mount = next(one for one in found if one["check"] == "volume.mount")
        sync = next(one for one in found if one["check"] == "volume.fsync")
        wanted = {"soft": "warning", "nocto": "failed", "actimeo=120": "warning", "noac": "ok"}[options]
        words = f"mounted {options}: {mount['result']}, {mount['words']}; {sync['words']}"
        lab.say(words, good=mount["result"] == wanted)
        await lab.one.run("umount /bad")


def _judge(lab: Lab, folder: Path, said: list[dict[str, Any]], words: str) -> None:
    acked = {name: one["acked"] for name, one in zip("ab", said, strict=True)}
    problem = problem_of(folder, acked)
    faults = {name: count for one in said for name, count in one["faults"].items()}
    longest = max(one["longest_s"] for one in said)
    whole = problem or "every acknowledged line is there once, in order, none torn"
    words = (
        f"{words}; {acked['a']} + {acked['b']} lines, {whole}; longest append {longest:g} s, faults {faults or 'none'}"
    )
    lab.say(words, good=not problem and min(acked.values()) > 20)


async def _both(*writers: "asyncio.Future[Any]") -> list[dict[str, Any]]:
    done = await asyncio.gather(*writers)
    for one in done:
        assert one["code"] == 0, one["out"] + one["err"]
    return [json.loads(one["out"]) for one in done]


def _lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("sessions/*/*/history.jsonl"))


async def _until(what: Callable[[], bool], within_s: float = 150) -> None:
    async with asyncio.timeout(within_s):
        while not what():
            await asyncio.sleep(0.1)


def _counts(found: list[dict[str, Any]]) -> str:
    results = [one["result"] for one in found]
    return ", ".join(
        f"{results.count(name)} {name}" for name in ("ok", "warning", "failed", "skipped") if name in results
    )


def _quoted(program: str) -> str:
    return "'" + program.replace("'", "'\\''") + "'"


PARTS: tuple[Callable[[Lab], Awaitable[None]], ...] = (
    one_host, two_hosts, server_restart, paused_host, beside_the_server, bad_mounts, late_write, dead_host,
)  # fmt: skip


async def main(chosen: list[str]) -> int:
    shutil.rmtree(SHARE, ignore_errors=True)
    SHARE.mkdir(parents=True, mode=0o700)
    server, one, two = Server(SHARE), Guest("one"), Guest("two")
    lab = Lab(server, one, two)
    try:
        await server.start()
        since = time.monotonic()
        await asyncio.gather(one.boot(), two.boot())
        await asyncio.gather(one.mount(), two.mount())
        about = (await one.run("uname -r; grep ' /m ' /proc/mounts")).split("\n")
        lab.say(f"two guests up after {time.monotonic() - since:.0f} s, Linux {about[0]}, {about[1].split()[3]}")
        for part in PARTS:
            if chosen and part.__name__ not in chosen:
                continue
            print(f"\n{part.__name__}: {(part.__doc__ or '').strip()}", flush=True)
            try:
                await part(lab)
            except Exception as error:
                lab.say(f"{part.__name__} broke off: {type(error).__name__}: {error}", good=False)
    finally:
        await asyncio.gather(one.kill(), two.kill(), server.kill())
    print(f"\n{'all as it should be' if not lab.bad else f'{lab.bad} failed'}")
    return int(bool(lab.bad))


if __name__ == "__main__":
    if os.geteuid() != 0 or (missing := lacking()):
        why = "root is needed" if os.geteuid() != 0 else f"missing: {', '.join(missing)}"
        sys.exit(f"error: {why}: apt install nfs-ganesha nfs-ganesha-vfs qemu-system-x86 debootstrap e2fsprogs")
    for number in (signal.SIGTERM, signal.SIGHUP):  # the machines must not outlive us
        signal.signal(number, lambda *_: sys.exit(1))
    build_image()
    build_code()
    sys.exit(asyncio.run(main(sys.argv[1:])))

"""What one side of a volume check does when it is told to. The other side is a second process of this host, or a
doctor on another host: both do the same acts. Standard library and orjson only; works below one folder.
"""

import asyncio
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from agent_session.transcript.lines import event_line
from agent_session.transcript.log import TranscriptLog, View
from agent_session.transcript.volume import Volume

KEY = "doctor"  #: the session whose transcript both sides write
SAFE = re.compile(r"[a-z0-9][a-z0-9-]{0,60}\Z")
POLL_S = 0.005
WHOLE = 4096  #: bytes of a file that is replaced: one letter, repeated


class BadAct(ValueError):
    """An act that nobody has to do here."""


class Acts:
    """One side. `tell` gets what is said before an act is through."""

    def __init__(self, folder: Path, tell: Callable[[dict[str, Any]], None] | None = None) -> None:
        self._folder, self._tell = folder, tell
        self._held: dict[str, int] = {}

    def do(self, act: str, **how: Any) -> dict[str, Any]:
        """Errors: BadAct, OSError. Names come from the other side: they are checked."""
        if act not in ACTS:
            raise BadAct(f"{act!r} is no act")
        for name in (how.get("name"), how.get("writer")):
            if name is not None and not SAFE.match(str(name)):
                raise BadAct(f"{name!r} is no name of a file")
        return ACTS[act](self, **how)

    def about(self) -> dict[str, Any]:
        return {"host": socket.gethostname(), "pid": os.getpid(), "boot": boot_id(), "now": time.time()}

    def hold(self, name: str, within_s: float = 0.0) -> dict[str, Any]:
        """Take the lock of a file and keep it; `got` is false where somebody else has it."""
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._held[name] = descriptor
                return {"got": True, "ms": round((time.monotonic() - began) * 1e3, 1)}
            except BlockingIOError:
                if time.monotonic() - began >= within_s:
                    os.close(descriptor)
                    return {"got": False}
            except OSError:
                os.close(descriptor)
                raise
            time.sleep(POLL_S)

    def release(self, name: str) -> dict[str, Any]:
        os.close(self._held.pop(name))
        return {}

    def die_holding(self, name: str) -> dict[str, Any]:
        """A process takes the lock and is killed, unasked."""
        child = another_process(self._folder)
        try:
            got = _ask(child, {"act": "hold", "name": name})["got"]
        finally:
            kill(child)
        return {"got": got}

    def append(self, writer: str, lines: int, within_s: float) -> dict[str, Any]:
        """Append lines as a worker does; `acked` is how many were said to be on disk."""
        return asyncio.run(self._append(writer, lines, time.monotonic() + within_s))

    async def _append(self, writer: str, lines: int, deadline: float) -> dict[str, Any]:
        acked, began, slowest = 0, time.monotonic(), 0.0
        with ThreadPoolExecutor(1) as pool:
            log = TranscriptLog(Volume(self._folder), KEY, pool)
            while acked < lines and time.monotonic() < deadline:
                line = event_line(f"t-{writer}", "note", to=acked + 1, text=writer * 20)
                since = time.monotonic()
                await log.append(lambda view, line=line: _put(view, line), None)
                slowest = max(slowest, time.monotonic() - since)
                acked += 1
                if self._tell is not None:
                    self._tell({"acked": acked})
        took = time.monotonic() - began
        return {"acked": acked, "ms_each": round(took / max(acked, 1) * 1e3, 2), "slowest_ms": round(slowest * 1e3)}

    def die_appending(self, writer: str, after: int) -> dict[str, Any]:
        """A process appends and is killed in the middle, once it has been told of so many."""
        child = another_process(self._folder)
        acked = 0
        try:
            _say(child, {"act": "append", "writer": writer, "lines": after * 50, "within_s": 15.0, "tell": True})
            while acked < after:
                said = _hear(child)
                acked = int(said["acked"])
                if "ms_each" in said:  # its last word: it wrote for as long as it may
                    break
        finally:
            os.kill(child.pid, signal.SIGKILL)
        for line in child.stdout or ():  # what it said before it died
            with suppress(ValueError, KeyError, TypeError):
                acked = max(acked, int(orjson.loads(line)["acked"]))
        kill(child)
        return {"acked": acked}

    def race(self, name: str, count: int, backwards: bool = False) -> dict[str, Any]:
        """Create files that the other side creates, too, from the other end; `won` has those that were ours."""
        won: list[int] = []
        for at in reversed(range(count)) if backwards else range(count):
            with suppress(FileExistsError):
                os.close(os.open(self._folder / f"{name}-{at}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                won.append(at)
        return {"won": won}

    def replace(self, name: str, count: int, within_s: float) -> dict[str, Any]:
        """Replace a file again and again, each time by a whole one; the last says that it is the last."""
        done, deadline = 0, time.monotonic() + within_s
        while done < count:
            last = done == count - 1 or time.monotonic() > deadline
            (self._folder / f"{name}-new").write_bytes((b"z" if last else b"ab"[done % 2 : done % 2 + 1]) * WHOLE)
            os.replace(self._folder / f"{name}-new", self._folder / name)
            done += 1
            if last:
                break
        return {"replaced": done}

    def watch_replaced(self, name: str, within_s: float) -> dict[str, Any]:
        """Read the file all the while: it must always be there, and whole."""
        seen = dict.fromkeys(("reads", "missing", "torn", "stale"), 0)
        deadline, last = time.monotonic() + within_s, b""
        while not last.startswith(b"z") and time.monotonic() < deadline:
            seen["reads"] += 1
            try:
                last = (self._folder / name).read_bytes()
                seen["torn"] += len(last) != WHOLE or last != last[:1] * WHOLE
            except FileNotFoundError:
                seen["missing"] += 1
            except OSError:  # ESTALE: another host replaced it between open and read
                seen["stale"] += 1
        return {**seen, "saw_the_last": last.startswith(b"z")}

    def write(self, name: str, size: int) -> dict[str, Any]:
        descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"x" * size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return {}

    def close(self) -> None:
        for name in list(self._held):
            self.release(name)


ACTS: dict[str, Callable[..., dict[str, Any]]] = {
    one.__name__: one
    for one in (
        Acts.about, Acts.hold, Acts.release, Acts.die_holding, Acts.append, Acts.die_appending, Acts.race,
        Acts.replace, Acts.watch_replaced, Acts.write,
    )
}  # fmt: skip


def boot_id() -> str:
    """The same for all processes of one running kernel; empty where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def another_process(folder: Path) -> "subprocess.Popen[bytes]":
    """One that does acts in this folder, told by its standard input; it ends with it."""
    command = [sys.executable, "-P", "-m", "agent_session.ops.doctor.volume_child", str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def kill(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _ask(child: "subprocess.Popen[bytes]", what: dict[str, Any]) -> dict[str, Any]:
    _say(child, what)
    return _hear(child)


def _say(child: "subprocess.Popen[bytes]", what: dict[str, Any]) -> None:
    assert child.stdin is not None
    child.stdin.write(orjson.dumps(what) + b"\n")
    child.stdin.flush()


def _hear(child: "subprocess.Popen[bytes]") -> dict[str, Any]:
    assert child.stdout is not None
    said = orjson.loads(child.stdout.readline() or b'{"error": "the second process ended"}')
    if "error" in said:
        raise OSError(said["error"])
    return said


def _put(view: View, line: dict[str, Any]) -> None:
    view.append(line, 1)

"""Writers that hold a transcript's lock for long: stopped under it (SIGSTOP, a paused machine), they hold up their
session. Each lock is tried for an instant, as waiting readers do.
"""

import fcntl
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from agent_session.ops.doctor.findings import Finding, failed, ok, warning
from agent_session.paths import is_locked
from agent_session.transcript.log import FILE

LONG_S = 3.0  #: an append takes milliseconds
TIME_S, MOST = 5.0, 20_000  #: for trying locks, and transcripts
AGAIN_S = 0.02
STATES = {"T": "stopped", "t": "stopped", "D": "waits for a disk"}


def writer_checks(data_dir: Path) -> Generator[Finding]:
    """Takes up to 10 s."""
    held, looked, all_of_them = dict[Path, int](), 0, True
    deadline = time.monotonic() + TIME_S
    for path in _transcripts(data_dir / "sessions"):
        if looked >= MOST or time.monotonic() > deadline:
            all_of_them = False
            break
        looked += 1
        if _is_held(path):
            held[path] = _size(path)
    until = time.monotonic() + LONG_S
    while held and time.monotonic() < until:  # one that grows is busy, not stuck
        time.sleep(AGAIN_S)
        held = {path: size for path, size in held.items() if _is_held(path) and _size(path) == size}
    for path in held:
        who = _holder(path)
        todo = f"kill -CONT {who.pid}, or kill -9 {who.pid}" if who else "find the stopped host or process and end it"
        by = f"process {who.pid} ({who.command}, {who.state})" if who else "somebody outside this host or container"
        yield failed("writers", f"{path.parent.name}: its lock is held for over {LONG_S:g} s by {by}", todo)
    if held:
        return
    if all_of_them:
        yield ok("writers", f"no lock is held for long, of {looked:,} transcripts")
    else:
        words = f"no lock is held for long, of the first {looked:,} transcripts; the others were not tried"
        yield warning("writers", words, "look for stopped processes (state T in ps) if a session hangs")


def _transcripts(sessions: Path) -> Iterator[Path]:
    try:
        prefixes = list(os.scandir(sessions))
    except OSError:
        return
    for prefix in prefixes:
        try:
            folders = list(os.scandir(prefix.path))
        except OSError:
            continue
        for folder in folders:
            yield Path(folder.path) / FILE


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        return is_locked(descriptor, fcntl.LOCK_SH)
    except OSError:
        return False  # gone, or there are no locks here: the volume check says so


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


class Holder:
    """A process of this host that holds a lock."""

    def __init__(self, pid: int) -> None:
        self.pid, self.command, self.state = pid, "?", "?"
        try:
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
            self.command, self.state = name, STATES.get(rest.split()[0], "alive")
        except (OSError, IndexError):
            pass  # it has ended


def _holder(path: Path) -> Holder | None:
    """By the kernel's list of locks; none where it does not know, or where the holder is on another host."""
    try:
        about = os.stat(path)
        table = Path("/proc/locks").read_text()
    except OSError:
        return None
    inode = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
    for line in table.splitlines():
        words = line.split()
        if "FLOCK" in words and inode in words:
            pid = words[words.index(inode) - 1]
            return Holder(int(pid)) if int(pid) > 0 else None
    return None

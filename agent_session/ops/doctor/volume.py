"""The volume check: a scratch folder on the volume, in which two processes try what a transcript needs.

Leaves nothing behind: the folder is removed at the end, and what a killed check left, by the next. Standard library
and orjson only, so that it runs where our other packages are missing (`alone.py`).
"""

import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from agent_session.ops.doctor.findings import Finding, failed, words_of
from agent_session.ops.doctor.volume_acts import Acts
from agent_session.ops.doctor.volume_files import file_checks
from agent_session.ops.doctor.volume_mount import mount_checks, mount_of
from agent_session.ops.doctor.volume_pair import Pair, pair_checks
from agent_session.ops.doctor.volume_partner import Child
from agent_session.paths import is_locked
from agent_session.transcript.volume import Volume

PREFIX, FRESH, ALIVE = ".doctor-", ".doctor-new-", "alive"
FRESH_S = 60.0  #: what is older and has no lock yet was left behind
WITHIN_S = 90.0  #: the whole check, at most
TODO = {
    errno.EROFS: "mount it read-write; a file system that found damage goes read-only by itself: see dmesg",
    errno.ENOSPC: "make room: agent-session needs to append to every transcript",
    errno.EDQUOT: "raise the quota of this user",
    errno.EACCES: "give the service's user this directory (chown), or run doctor as that user",
    errno.EPERM: "give the service's user this directory (chown), or run doctor as that user",
    errno.ENOENT: "name a directory that exists: agent-session doctor --volume DIR",
    errno.ESTALE: "mount it again: the server no longer knows this mount",
}


def volume_checks(root: Path) -> Generator[Finding]:
    """Whether a directory's file system keeps what transcripts need. Takes 2 to 30 s. The scratch folder is made
    in `root`; nothing else is touched. Errors: none, each is a finding."""
    try:
        mount = mount_of(root)
        if not root.is_dir():
            raise NotADirectoryError(errno.ENOENT, "there is no such directory", str(root))
        yield from mount_checks(mount)
        with scratch(root) as folder:
            yield from file_checks(folder, mount)
            Volume(folder).initialise()
            partner, mine = Child(folder), Acts(folder)
            try:
                yield from pair_checks(Pair(folder, mine, partner, "volume", "a second process"))
            finally:
                mine.close()
                partner.close()
    except OSError as error:
        yield cannot_be_used(root, error)


def cannot_be_used(root: Path, error: OSError) -> Finding:
    todo = TODO.get(error.errno or 0, "see docs/operations/volumes.md")
    return failed("volume.writable", f"{root} cannot be used: {error.strerror or words_of(error)}", todo)


@contextmanager
def scratch(root: Path) -> Generator[Path]:
    """A folder that is known to be in use while inside. Errors: OSError."""
    sweep(root)
    fresh, name = root / f"{FRESH}{uuid.uuid4().hex}", root / f"{PREFIX}{uuid.uuid4().hex}"
    fresh.mkdir(mode=0o700)
    alive = -1
    try:
        alive = os.open(fresh / ALIVE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pass  # there are no locks here: the checks will say so
        os.rename(fresh, name)
        yield name
    finally:
        if alive >= 0:
            os.close(alive)
        for path in (fresh, name):
            shutil.rmtree(path, ignore_errors=True)


def sweep(root: Path) -> None:
    """Remove what killed checks left: folders whose lock nobody holds. Errors: OSError."""
    for entry in list(os.scandir(root)):
        if not entry.name.startswith(PREFIX) or not entry.is_dir(follow_symlinks=False):
            continue
        if entry.name.startswith(FRESH):
            dead = _older_than(entry.path, FRESH_S)
        else:
            dead = (Path(entry.path) / ALIVE).exists() and not _is_held(Path(entry.path) / ALIVE)
        if dead:
            shutil.rmtree(entry.path, ignore_errors=True)


def _older_than(path: str, seconds: float) -> bool:
    try:
        return time.time() - os.stat(path).st_mtime > seconds
    except OSError:
        return False


def _is_held(path: Path) -> bool:
    try:
        return is_locked(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return True

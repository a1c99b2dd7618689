"""What a volume must promise to one process: durable writes, links, unlinked files, modes, a clock. Each in its own
files of a scratch folder.
"""

import os
import stat
import statistics
import time
from collections.abc import Callable, Generator
from pathlib import Path

from agent_session.ops.doctor.findings import Finding, failed, ok, warning, words_of
from agent_session.ops.doctor.volume_mount import Mount

SYNCS, LINE = 20, b"x" * 199 + b"\n"
TOO_FAST_MS = 0.2  #: no network and no disk behind it answers so soon
SLOW_MS = 50.0
SKEW_S = 2.0
NOT_OURS = "use another file system for the data directory: docs/operations/volumes.md"


def file_checks(folder: Path, mount: Mount) -> Generator[Finding]:
    """One finding a check; a check that breaks off is a failed one."""
    checks: tuple[tuple[str, Callable[[Path], Finding]], ...] = (
        ("fsync", lambda folder: _fsync(folder, mount)),
        ("modes", _modes),
        ("links", _links),
        ("unlinked", _unlinked),
        ("clock", _clock),
    )
    for name, check in checks:
        try:
            yield check(folder)
        except OSError as error:
            yield failed(f"volume.{name}", f"broke off: {words_of(error)}", NOT_OURS)


def _fsync(folder: Path, mount: Mount) -> Finding:
    took: list[float] = []
    descriptor = os.open(folder / "synced", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(SYNCS):
            since = time.perf_counter()
            os.write(descriptor, LINE)
            os.fsync(descriptor)
            took.append((time.perf_counter() - since) * 1e3)
    finally:
        os.close(descriptor)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)  # names are synced, too
    finally:
        os.close(handle)
    median, worst = round(statistics.median(took), 3), round(max(took), 2)
    words = f"a line is on disk after {median:g} ms (worst {worst:g})"
    figures = {"median_ms": median, "worst_ms": worst}
    if mount.network and median < TOO_FAST_MS:
        todo = "see that the server syncs before it answers (export option sync, not async), or a power cut loses lines"
        return warning("volume.fsync", f"{words}: no server on a network syncs so fast", todo, **figures)
    if median > SLOW_MS:
        todo = "a turn waits for about three of them: use a faster volume, if that is too long"
        return warning("volume.fsync", words, todo, **figures)
    return ok("volume.fsync", words, **figures)


def _modes(folder: Path) -> Finding:
    os.mkdir(folder / "modes", 0o700)
    descriptor = os.open(folder / "modes" / "file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        about = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    os.chmod(folder / "modes" / "file", 0o640)
    changed = stat.S_IMODE(os.stat(folder / "modes" / "file").st_mode)
    kept = (stat.S_IMODE(about.st_mode), changed, stat.S_IMODE(os.stat(folder / "modes").st_mode) & 0o777)
    if kept != (0o600, 0o640, 0o700):
        shown = ", ".join(f"{mode:04o}" for mode in kept)
        todo = "mount it so that modes are kept (SMB: file_mode=0600,dir_mode=0700), or others may read transcripts"
        return failed("volume.modes", f"modes are not kept: 0600, 0640, 0700 became {shown}", todo)
    if about.st_uid != os.geteuid():
        todo = "map this uid to itself on the server (no squashing), and run the service as one uid everywhere"
        return warning("volume.modes", f"uid {os.geteuid()} makes files that belong to uid {about.st_uid}", todo)
    return ok("volume.modes", f"modes and the owner (uid {about.st_uid}) are kept")


def _links(folder: Path) -> Finding:
    (folder / "linked").write_bytes(b"whole")
    try:
        os.link(folder / "linked", folder / "linked-too")
    except OSError as error:
        todo = "schedules cannot be added here, all else works: use another file system if you want them"
        return warning("volume.links", f"there are no hard links: {words_of(error)}", todo)
    try:
        os.link(folder / "linked", folder / "linked-too")
        return failed("volume.links", "a hard link replaced a file that was there", NOT_OURS)
    except FileExistsError:
        return ok("volume.links", "hard links work, and never replace a file")


def _unlinked(folder: Path) -> Finding:
    """A running reader keeps a file that was replaced. NFS renames such a file to .nfs… until it is closed."""
    path = folder / "unlinked"
    path.write_bytes(b"before")
    descriptor = os.open(path, os.O_RDWR)
    try:
        path.unlink()
        os.pwrite(descriptor, b"after!", 0)
        read = os.pread(descriptor, 10, 0)
    finally:
        os.close(descriptor)
    left = [name for name in os.listdir(folder) if name.startswith((".nfs", ".fuse_hidden", "unlinked"))]
    if read != b"after!":
        return failed("volume.unlinked", "an open file was gone once its name was", NOT_OURS)
    if left:
        return warning("volume.unlinked", f"unlinked files stay behind: {', '.join(left)[:100]}", NOT_OURS)
    return ok("volume.unlinked", "an open file lives until it is closed, and leaves nothing")


def _clock(folder: Path) -> Finding:
    before = time.time()
    (folder / "clock").write_bytes(b"now")
    at, after = os.stat(folder / "clock").st_mtime, time.time()
    skew = round(at - after if at > after else min(0.0, at - before), 2)
    if abs(skew) > SKEW_S:
        way = "ahead of" if skew > 0 else "behind"
        todo = "let both keep time (chrony, NTP): which file is newer is judged by these times"
        return warning("volume.clock", f"the volume's clock is {abs(skew):g} s {way} ours", todo, skew_s=skew)
    return ok("volume.clock", f"the volume's clock is ours, within {max(abs(skew), 0.1):g} s", skew_s=skew)

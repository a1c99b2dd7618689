"""The data directory, its secrets and the room on its disk: looked at, never changed."""

import os
import stat
from collections.abc import Generator, Iterator
from pathlib import Path

from agent_session.gateway.tokens import open_to_others
from agent_session.ops.doctor.findings import Finding, failed, ok, warning
from agent_session.ops.doctor.volume import TODO
from agent_session.ops.owner import OWNER_LOCK, is_owned
from agent_session.settings import CONFIG_FILE, Settings
from agent_session.transcript.volume import KEY_FILE, MARKER

GROUP, OTHERS = 0o070, 0o007
FOLDERS = ("sessions", "logs")
PRIVATE = (
    KEY_FILE, CONFIG_FILE, "config.toml.bak", "gateway.token", "gateway.json", "service.json", "live.sock",
    "temporal.db", "temporal.db-wal", "temporal.db-shm",
)  # fmt: skip
WARN_FREE, WARN_INODES, FEW_INODES = 0.05, 0.05, 1_000
MIB = 1024 * 1024
LEAST_MIB = 64  #: of free room; tools.shell.disk_reserve_mb where that is more


def directory_checks(data_dir: Path, *, shared: bool) -> Generator[Finding]:
    """Marker, owner, modes. `shared`: other hosts use it too, so that nobody here makes it by themselves."""
    check = "directory"
    try:
        about = os.stat(data_dir)
    except FileNotFoundError:
        if shared:
            todo = f"mount the volume there; if it is new: agent-session init --data-dir {data_dir}"
            yield failed(check, f"{data_dir} does not exist", todo)
        else:
            yield warning(check, f"{data_dir} does not exist yet", "agent-session up makes it")
        return
    except OSError as error:
        yield failed(check, f"{data_dir}: {error.strerror}", TODO.get(error.errno or 0, "mount it again"))
        return
    if not stat.S_ISDIR(about.st_mode):
        yield failed(check, f"{data_dir} is no directory", "name another one: AGENT_SESSION_DATA_DIR")
        return
    if not (data_dir / MARKER).exists():
        todo = f"mount the volume there; if it is new: agent-session init --data-dir {data_dir}"
        yield failed(check, f"{data_dir} has no {MARKER}: an unmounted volume, or a new one", todo)
        return
    problems = list(_owner_and_modes(data_dir, about))
    yield from problems
    if not problems:
        yield ok(check, f"{data_dir} is a data volume, for uid {about.st_uid} alone")


def _owner_and_modes(data_dir: Path, about: os.stat_result) -> Iterator[Finding]:
    check, me = "directory", os.geteuid()
    if about.st_uid != me:
        words = f"{data_dir} belongs to uid {about.st_uid}, and this is uid {me}"
        if not os.access(data_dir, os.W_OK):
            yield failed(check, f"{words}, which cannot write it", f"chown -R {me} {data_dir}, or run as that user")
        else:
            yield warning(check, words, "run doctor and every command as the user of the service")
    if about.st_mode & OTHERS:
        yield failed(check, f"{data_dir} is open to everybody ({_mode(about)})", f"chmod 700 {data_dir}")
    elif about.st_mode & GROUP:
        yield warning(check, f"{data_dir} is open to its group ({_mode(about)})", f"chmod 700 {data_dir}")
    reached = about.st_mode & (GROUP | OTHERS)
    for name in (*FOLDERS, *PRIVATE):
        path = data_dir / name
        try:
            one = os.lstat(path)
        except OSError:
            continue
        if one.st_mode & (GROUP | OTHERS) and not stat.S_ISLNK(one.st_mode):
            right = "700" if stat.S_ISDIR(one.st_mode) else "600"
            kind = failed if reached else warning  # nobody comes past a directory that is closed
            yield kind(check, f"{path} is open to others ({_mode(one)})", f"chmod {right} {path}")


def runs_here(data_dir: Path) -> bool:
    """Whether an `up` serves this directory. Leaves no lock file where none is."""
    return (data_dir / OWNER_LOCK).exists() and is_owned(data_dir)


def secret_checks(settings: Settings) -> Generator[Finding]:
    """Files with secrets that lie elsewhere: there, readable by us, and by nobody else."""
    given = {
        "mac_key_file": settings.mac_key_file,
        "gateway.token_file": settings.gateway.token_file,
        "temporal.tls_key_file": settings.temporal.tls_key_file,
    }
    files = {name: path for name, path in given.items() if path is not None}
    problems = [found for name, path in files.items() if (found := _secret(name, path)) is not None]
    yield from problems
    if not problems:
        words = ", ".join(files) if files else "no file outside the data directory is named"
        yield ok("secrets", f"{words}{': readable by this service alone' if files else ''}")


def _secret(name: str, path: Path) -> Finding | None:
    try:
        about = os.stat(path)
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        return failed("secrets", f"{name}: {path} cannot be read: {error.strerror}", "mount or create it (0600)")
    if empty:
        return failed("secrets", f"{name}: {path} is empty", "write the secret into it")
    if open_to_others(about):
        words, todo = f"{name}: {path} can be read by others ({_mode(about)})", f"chmod 600 {path}"
        if name == "gateway.token_file":
            return failed("secrets", f"{words}, and the gateway refuses it", todo)
        return warning("secrets", words, f"{todo} (a mounted secret: defaultMode 0400)")
    return None


def space_checks(data_dir: Path, reserve_mib: int) -> Generator[Finding]:
    """Free bytes and inodes for us. `reserve_mib`: below it commands are ended."""
    where = next((one for one in (data_dir, *data_dir.parents) if one.exists()), Path("/"))
    found = os.statvfs(where)
    free, share = found.f_bavail * found.f_frsize // MIB, found.f_bavail / max(found.f_blocks, 1)
    inodes, of_inodes = found.f_favail, found.f_favail / max(found.f_files, 1)
    counted = found.f_files > 0  # some file systems (btrfs, NFS servers) have no fixed number
    words = f"{free:,} MiB free ({share:.0%})" + (f", {inodes:,} inodes ({of_inodes:.0%})" if counted else "")
    figures = {"free_mib": free, "free_inodes": inodes if counted else None}
    least = max(LEAST_MIB, reserve_mib)
    if free < least:
        todo = f"make room: below {least} MiB commands are ended, and at 0 nothing can be written"
        yield failed("space", words, todo, **figures)
    elif counted and inodes < FEW_INODES:
        yield failed("space", words, "remove many small files, or make a file system with more inodes", **figures)
    elif share < WARN_FREE or (counted and of_inodes < WARN_INODES):
        yield warning("space", words, "make room before it is full", **figures)
    else:
        yield ok("space", words, **figures)


def _mode(about: os.stat_result) -> str:
    return f"{stat.S_IMODE(about.st_mode):04o}"

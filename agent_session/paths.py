"""The one way to open a path of a session (I11): below a directory handle, component by component, no
symbolic link, regular files only, never waiting on a FIFO, up to a size.

A path that a model or a message names is opened relative to a handle, so that a link planted between
check and use is not followed. Every refusal is an `UnsafePath`, which says what was wrong.
"""

import errno
import fcntl
import os
import stat
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import PurePosixPath

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UnsafePath(ValueError):
    """A path that leads, or may lead, out of its folder, or is not a regular file."""


class TooLarge(ValueError):
    """A file over the size that its reader allows."""


def parts_of(path: str) -> list[str]:
    """The components of a relative path. Errors: UnsafePath for absolute ones, `..` and NUL."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or "\0" in path or ".." in pure.parts:
        raise UnsafePath(f"{path!r} leads out of the folder: use a path below it, without '..'")
    return [part for part in pure.parts if part != "."]


@contextmanager
def folder(path: str | os.PathLike[str], *below: str, create: bool = False) -> Generator[int]:
    """A handle on `path` and, below it, on each component of `below`. `path` itself may be a link: it is
    the operator's. With `create`, missing folders below are made (0700)."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with folder_below(handle, *below, create=create) as found:
            yield found
    finally:
        os.close(handle)


@contextmanager
def folder_below(root: int, *below: str, create: bool = False) -> Generator[int]:
    """As `folder`, from a handle that stays open."""
    handle = os.dup(root)
    try:
        for part in below:
            deeper = _step_into(handle, part, create)
            os.close(handle)
            handle = deeper
        yield handle
    finally:
        os.close(handle)


def _step_into(handle: int, part: str, create: bool) -> int:
    try:
        return os.open(part, FOLDER_FLAGS, dir_fd=handle)
    except FileNotFoundError:
        if not create:
            raise
        try:
            os.mkdir(part, 0o700, dir_fd=handle)
            os.fsync(handle)
        except FileExistsError:
            pass  # another process was quicker
        return os.open(part, FOLDER_FLAGS, dir_fd=handle)
    except OSError as error:
        raise _refusal(error, part) from error


def open_regular(handle: int, name: str, flags: int, *, mode: int = 0o600) -> int:
    """Open the regular file `name` in the folder `handle`. Errors: UnsafePath for links, FIFOs, devices
    and folders; FileNotFoundError."""
    try:
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode, dir_fd=handle)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refusal(error, name) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsafePath(f"{name!r} is not a regular file")
    return descriptor


def read_regular(handle: int, name: str, max_bytes: int) -> bytes:
    """The whole file. Errors: as `open_regular`, and TooLarge."""
    descriptor = open_regular(handle, name, os.O_RDONLY)
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise TooLarge(f"{name!r} is larger than {max_bytes} bytes")
    return data


def write_whole(handle: int, name: str, data: bytes, *, mode: int = 0o600) -> None:
    """Replace or make `name` in one step, synced: a temporary file beside it, then a rename. A link of
    that name is replaced, never followed. uuid4 in the name: pids repeat between hosts on one volume."""
    temporary = f".tmp-{uuid.uuid4().hex}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=handle)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, name, src_dir_fd=handle, dst_dir_fd=handle)
    except BaseException:
        with _ignore_missing():
            os.unlink(temporary, dir_fd=handle)
        raise
    os.fsync(handle)


@contextmanager
def _ignore_missing() -> Generator[None]:
    try:
        yield
    except FileNotFoundError:
        pass


def _refusal(error: OSError, name: str) -> Exception:
    if error.errno in (errno.ELOOP, errno.EMLINK):
        return UnsafePath(f"{name!r} is a symbolic link, which is not followed here")
    if error.errno == errno.ENOTDIR:
        return UnsafePath(f"{name!r} is a symbolic link or not a folder")
    if error.errno in (errno.ENXIO, errno.EISDIR):
        return UnsafePath(f"{name!r} is not a regular file")
    return error


def is_locked(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Whether another holder's `flock` forbids a lock of this kind on the open file, which is then closed. Errors:
    OSError."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)

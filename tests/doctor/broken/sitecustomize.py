"""A volume that breaks one promise, for every process that is started with this folder on PYTHONPATH: the calls that
reach it are bent. BROKEN_VOLUME says which."""

import errno
import fcntl
import os
import time
from typing import Any

real_open, real_write, real_replace = os.open, os.write, os.replace


def no_lock(*_: Any) -> None:
    return


def no_lock_service(*_: Any) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def not_exclusive(path: Any, flags: int, *more: Any, **how: Any) -> int:
    return real_open(path, flags & ~os.O_EXCL, *more, **how)


def half_written(descriptor: int, data: bytes) -> int:
    if b'"role":"event"' in data and b'"to":7,' in data:
        real_write(descriptor, data[: len(data) // 2])
        return len(data)
    return real_write(descriptor, data)


def replaced_in_two_steps(old: Any, new: Any, **how: Any) -> None:
    if not how:
        os.unlink(new)
        time.sleep(0.002)
    real_replace(old, new, **how)


def failing_sync(_: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def no_links(*_: Any, **__: Any) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def modes_ignored(*_: Any, **__: Any) -> None:
    return


BROKEN = os.environ.get("BROKEN_VOLUME", "")
if BROKEN in ("no_lock", "no_lock_service"):
    fcntl.flock = globals()[BROKEN]
elif BROKEN:
    name = {
        "not_exclusive": "open", "half_written": "write", "replaced_in_two_steps": "replace", "failing_sync": "fsync",
        "no_links": "link", "modes_ignored": "chmod",
    }[BROKEN]  # fmt: skip
    setattr(os, name, globals()[BROKEN])

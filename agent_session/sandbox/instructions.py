"""Instruction files (AGENTS.md and the like) under a sandboxed command: read-only, also where there is none.

What stands in them steers the agent, so a command that a web page talked the model into must not write
one. An existing file is mounted read-only by the sandbox; in place of a missing one stands an empty file,
taken away again when the last command of the workspace has ended. Commands hold a shared lock on the
workspace's folder, which also ends with them.
"""

import fcntl
import os
import stat
from collections.abc import Iterable
from contextlib import suppress

from agent_session.paths import is_locked


class NotAFile(Exception):
    """An instruction file that is a link or a folder cannot be protected: the message says what to do."""


def hold(folder: int, names: Iterable[str]) -> tuple[str, ...]:
    """Take the shared lock on the workspace's handle and make sure that each file exists. The lock lives as
    long as the handle, in whatever process. Errors: NotAFile, OSError."""
    fcntl.flock(folder, fcntl.LOCK_SH)
    for name in names:
        try:
            made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)
        except FileExistsError:
            if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                raise NotAFile(
                    f"{name} is a link or a folder: make it a regular file, so that it can be kept"
                ) from None
            continue
        os.utime(made, (0, 0))  # how a placeholder is known later
        os.close(made)
    return tuple(names)


def is_held(workspace: str) -> bool:
    """Whether a sandboxed command runs in the workspace: an instruction file that is replaced meanwhile would
    lose its protection. Errors: OSError."""
    return is_locked(os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))


def release(workspace: str, names: Iterable[str]) -> None:
    """Take placeholders away, unless another command still runs there. Never fails: one that stays is empty."""
    try:
        folder = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for name in names:
            with suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and found.st_size == 0 and found.st_mtime_ns == 0:
                    os.unlink(name, dir_fd=folder)
    except OSError:
        pass
    finally:
        os.close(folder)

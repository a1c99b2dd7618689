"""How file tools reach the session's workspace: relative to a directory handle, nothing followed (I11)."""

import asyncio
import os
import stat
from collections.abc import Callable
from typing import TypeVar

from agent_session.paths import TooLarge, UnsafePath, folder, parts_of, write_whole
from agent_session.tools.base import ToolContext, ToolError

T = TypeVar("T")


def components(ctx: ToolContext, path: str) -> list[str]:
    """The path below the workspace; an absolute path into the workspace is taken as what it means.
    Errors: ToolError."""
    root = str(ctx.workspace)
    if path == root or path.startswith(root + "/"):
        path = path[len(root) :].lstrip("/") or "."
    try:
        return parts_of(path)
    except UnsafePath as error:
        raise ToolError(str(error)) from None


async def in_folder(
    ctx: ToolContext, below: list[str], work: Callable[[int], T], *, path: str, create: bool = False
) -> T:
    """Run `work` in a thread with a handle on a folder of the workspace. `path` is what the model asked
    for. Errors: ToolError."""

    def run() -> T:
        try:
            with folder(ctx.workspace, *below, create=create) as handle:
                return work(handle)
        except FileNotFoundError:
            raise ToolError(f"{path} does not exist") from None
        except (UnsafePath, TooLarge, UnicodeError) as error:
            raise ToolError(str(error)) from None
        except OSError as error:
            raise ToolError(f"{path}: {os.strerror(error.errno or 0)}") from None

    return await asyncio.to_thread(run)


def replace_file(handle: int, name: str, data: bytes) -> None:
    """Write the file whole, with the permissions that it had. Errors: ToolError."""
    try:
        mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG | 0o644
    if not stat.S_ISREG(mode):
        raise ToolError(f"{name} is not a regular file: it is left as it is")
    write_whole(handle, name, data, mode=stat.S_IMODE(mode))

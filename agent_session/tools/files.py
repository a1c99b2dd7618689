"""Files of the session's workspace: read, write, list."""

import os
import stat
from typing import Annotated

from agent_session.paths import read_regular, write_whole
from agent_session.tools.base import ToolContext, ToolError, tool
from agent_session.tools.workspace import components, in_folder

ENTRIES_SHOWN = 1_000
Path = Annotated[str, "Path below the workspace, for example src/main.py."]


@tool(effects="none", timeout_s=60)
async def read_file(ctx: ToolContext, path: Path) -> str:
    """Read a text file of the workspace."""
    *below, name = components(ctx, path) or [""]
    if not name:
        raise ToolError("path names the workspace itself: name a file in it")
    data = await in_folder(
        ctx, below, lambda handle: read_regular(handle, name, ctx.settings.files.max_read_bytes), path=path
    )
    if b"\0" in data[:8192]:
        raise ToolError(f"{path} is a binary file of {len(data)} bytes")
    return data.decode("utf-8", "replace")


@tool(effects="idempotent", timeout_s=60)
async def write_file(ctx: ToolContext, path: Path, text: Annotated[str, "The whole new content."]) -> str:
    """Write a text file of the workspace, replacing what is there. Missing folders are made."""
    *below, name = components(ctx, path) or [""]
    data = text.encode("utf-8", "replace")
    if not name:
        raise ToolError("path names the workspace itself: name a file in it")
    if len(data) > ctx.settings.files.max_write_bytes:
        raise ToolError(f"{len(data)} bytes are too many: the limit is {ctx.settings.files.max_write_bytes}")
    await ctx.before_effect()
    await in_folder(ctx, below, lambda handle: _replace(handle, name, data), path=path, create=True)
    return f"Wrote {len(data)} bytes to {path}."


@tool(effects="none", timeout_s=60)
async def list_dir(ctx: ToolContext, path: Path = ".") -> str:
    """List a folder of the workspace: folders end with a slash, files show their size in bytes."""
    return await in_folder(ctx, components(ctx, path), _listing, path=path)


def _replace(handle: int, name: str, data: bytes) -> None:
    try:
        mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG | 0o644
    if not stat.S_ISREG(mode):
        raise ToolError(f"{name} is not a regular file: it is left as it is")
    write_whole(handle, name, data, mode=stat.S_IMODE(mode))


def _listing(handle: int) -> str:
    rows: list[str] = []
    names = sorted(os.listdir(handle))
    for name in names[:ENTRIES_SHOWN]:
        info = os.stat(name, dir_fd=handle, follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            rows.append(f"{name}/")
        elif stat.S_ISLNK(info.st_mode):
            rows.append(f"{name} -> (a symbolic link, not followed)")
        else:
            rows.append(f"{name}  {info.st_size}")
    if len(names) > ENTRIES_SHOWN:
        rows.append(f"… and {len(names) - ENTRIES_SHOWN} more")
    return "\n".join(rows) or "(empty)"

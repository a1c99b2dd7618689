"""Files of the session's workspace: read, write, list."""

import os
import stat
from typing import Annotated

from agent_session.paths import read_regular
from agent_session.tools.base import ToolContext, ToolError, tool
from agent_session.tools.workspace import components, in_folder, replace_file

ENTRIES_SHOWN = 1_000
Path = Annotated[str, "Path below the workspace, for example src/main.py."]


@tool(effects="none", timeout_s=60)
async def read_file(
    ctx: ToolContext,
    path: Path,
    first_line: Annotated[int, "The first line to show, from 1."] = 1,
    last_line: Annotated[int, "The last line to show; 0 for the end of the file."] = 0,
) -> str:
    """Read a text file of the workspace, whole or some of its lines."""
    *below, name = components(ctx, path) or [""]
    if not name:
        raise ToolError("path names the workspace itself: name a file in it")
    data = await in_folder(
        ctx, below, lambda handle: read_regular(handle, name, ctx.settings.files.max_read_bytes), path=path
    )
    if b"\0" in data[:8192]:
        raise ToolError(f"{path} is a binary file of {len(data)} bytes")
    text = data.decode("utf-8", "replace")
    if first_line <= 1 and not last_line:
        return text
    lines = text.splitlines(keepends=True)
    shown = lines[max(0, first_line - 1) : last_line or len(lines)]
    if not shown:
        raise ToolError(f"{path} has {len(lines)} lines: there is none from {first_line} to {last_line or 'the end'}")
    return "".join(shown)


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
    await in_folder(ctx, below, lambda handle: replace_file(handle, name, data), path=path, create=True)
    return f"Wrote {len(data)} bytes to {path}."


@tool(effects="none", timeout_s=60)
async def list_dir(ctx: ToolContext, path: Path = ".") -> str:
    """List a folder of the workspace: folders end with a slash, files show their size in bytes."""
    return await in_folder(ctx, components(ctx, path), _listing, path=path)


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

"""Files of the session's workspace: read, write, list. Paths are opened through `workspace.py` only."""

import os
import stat
from typing import Annotated, BinaryIO

from agent_session.tools.base import ToolContext, ToolError, tool
from agent_session.tools.text_files import (
    SAMPLE_BYTES,
    Encoding,
    as_utf8,
    count_lines,
    encoding_of,
    kind_of,
    some_bytes,
    some_lines,
)
from agent_session.tools.workspace import (
    asks_for_instruction_file,
    components,
    in_folder,
    no_command_runs,
    path_of,
    replace_file,
    with_file,
)

ENTRIES_SHOWN = 1_000
Path = Annotated[str, "Path below the workspace, for example src/main.py."]


@tool(effects="none", timeout_s=60, subject=path_of)
async def read_file(
    ctx: ToolContext,
    path: Path,
    first_line: Annotated[int, "The first line to show, from 1."] = 1,
    last_line: Annotated[int, "The last line to show; 0 for the end of the file."] = 0,
    first_byte: Annotated[int, "Instead of lines, for very long ones: the first byte to show, from 0."] = 0,
    bytes: Annotated[int, "How many bytes to show from first_byte; 0 for as many as are allowed."] = 0,
) -> str:
    """Read a text file of the workspace, whole or some of its lines or bytes. `artifacts/<call id>` is the
    whole result of an earlier call that was shortened: read it in parts of at most 16,000 bytes, or the
    part will be shortened again."""
    parts = components(ctx, path)
    if not parts:
        raise ToolError("path names the workspace itself: name a file in it")
    by_bytes = bool(first_byte or bytes)
    if by_bytes and (first_line > 1 or last_line):
        raise ToolError("give lines or bytes, not both")
    if min(first_byte, bytes, last_line) < 0:
        raise ToolError("first_byte, bytes and last_line are not negative")
    limit = ctx.settings.files.max_read_bytes

    def read(file: BinaryIO) -> str:
        size = os.fstat(file.fileno()).st_size
        sample = file.read(limit + 1 if size <= limit else SAMPLE_BYTES)
        encoding = encoding_of(sample)
        if encoding is None:
            raise ToolError(f"{path} is a binary file of {size} bytes: {kind_of(sample, parts[-1])}")
        if by_bytes:
            shown = some_bytes(file, encoding, size, first_byte, min(bytes or limit, limit))
        elif size <= limit or (encoding.unit == 1 and (first_line > 1 or last_line)):
            shown = _lines(file, encoding, first_line, last_line, limit)
        else:
            raise _too_large(file, encoding, path, size, limit)
        return encoding.note + shown

    return await with_file(ctx, parts, read, path=path)


def _lines(file: BinaryIO, encoding: Encoding, first: int, last: int, limit: int) -> str:
    if encoding.unit > 1:
        return some_lines(as_utf8(file, encoding), Encoding("utf-8"), first, last, 2 * limit)
    return some_lines(file, encoding, first, last, limit)


def _too_large(file: BinaryIO, encoding: Encoding, path: str, size: int, limit: int) -> ToolError:
    what = f"{path} has {size} bytes, which is larger than the {limit} that are read at once"
    if encoding.unit > 1:
        return ToolError(f"{what}, in {encoding.name}: read a part of it with first_byte and bytes")
    lines = count_lines(file)
    return ToolError(
        f"{what}, in {'very many' if lines is None else lines} lines: read some of them with first_line and "
        f"last_line, or with first_byte and bytes when a line is very long"
    )


@tool(effects="idempotent", timeout_s=60, asks=asks_for_instruction_file, subject=path_of)
async def write_file(ctx: ToolContext, path: Path, text: Annotated[str, "The whole new content."]) -> str:
    """Write a text file of the workspace, replacing what is there. Missing folders are made."""
    *below, name = components(ctx, path) or [""]
    data = text.encode("utf-8", "replace")
    if not name:
        raise ToolError("path names the workspace itself: name a file in it")
    if len(data) > ctx.settings.files.max_write_bytes:
        raise ToolError(f"{len(data)} bytes are too many: the limit is {ctx.settings.files.max_write_bytes}")
    await no_command_runs(ctx, path)
    await ctx.before_effect()
    await in_folder(ctx, below, lambda handle: replace_file(handle, name, data), path=path, create=True)
    return f"Wrote {len(data)} bytes to {path}."


@tool(effects="none", timeout_s=60, subject=path_of)
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

"""Change a part of a file: exact text for exact text, which must stand there once."""

import difflib
from typing import Annotated

from agent_session.paths import read_regular
from agent_session.tools.base import ToolContext, ToolError, tool
from agent_session.tools.workspace import (
    asks_for_instruction_file,
    components,
    in_folder,
    no_command_runs,
    path_of,
    replace_file,
)

DIFF_LINES = 200


@tool(effects="side_effects", timeout_s=60, asks=asks_for_instruction_file, subject=path_of)
async def edit_file(
    ctx: ToolContext,
    path: Annotated[str, "Path below the workspace."],
    old: Annotated[str, "The text to replace, exactly as it stands, with enough around it to occur once."],
    new: Annotated[str, "The text to put in its place."],
) -> str:
    """Replace one piece of a text file and show the difference."""
    *below, name = components(ctx, path) or [""]
    if not name or not old or old == new:
        raise ToolError("name a file, and give an old text that is not empty and differs from the new one")
    limit = ctx.settings.files.max_write_bytes

    def read(handle: int) -> str:
        return read_regular(handle, name, limit).decode("utf-8")

    before = await in_folder(ctx, below, read, path=path)
    count = before.count(old)
    if count != 1:
        raise ToolError(f"the old text occurs {count} times in {path}, not once; nothing was changed")
    after = before.replace(old, new)
    if len(after.encode("utf-8", "replace")) > limit:
        raise ToolError(f"{path} would be larger than {limit} bytes; nothing was changed")
    await no_command_runs(ctx, path)
    await ctx.before_effect()

    def write(handle: int) -> None:
        if read(handle) != before:
            raise ToolError(f"{path} was changed by somebody else meanwhile; nothing was changed")
        replace_file(handle, name, after.encode("utf-8", "replace"))

    await in_folder(ctx, below, write, path=path)
    return difference(before, after, path)


def difference(before: str, after: str, path: str) -> str:
    """A unified diff, at most 200 lines."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), path, path, lineterm=""))
    left = len(lines) - DIFF_LINES
    return "\n".join(lines[:DIFF_LINES]) + (f"\n… and {left} lines more" if left > 0 else "")

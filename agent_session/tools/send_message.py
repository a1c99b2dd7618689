"""Send a message, with files if need be, to a place of a channel, as a delivery: it waits durably until that channel
is up, and is posted once. A new place asks a person first; the place that the turn came from does not.
"""

import os
import re
from pathlib import PurePosixPath
from typing import Annotated, Any, BinaryIO

from agent_session.settings import ToolsSettings
from agent_session.tools.base import NamedFile, ToolContext, ToolError, tool
from agent_session.tools.workspace import components, with_file

ADDRESS = re.compile(r"[a-z][a-z0-9_-]{0,31}:\S{1,220}\Z")
TEXT_BYTES = 64 * 1024
FILES, FILE_BYTES = 10, 16 * 1024 * 1024


def asks(arguments: dict[str, Any], settings: ToolsSettings) -> str:
    """The place that a turn came from, and those that were allowed, are known to policy; others ask."""
    address = str(arguments.get("address", ""))
    return f"{address} is a new place to write to" if address else ""


def subject(arguments: dict[str, Any]) -> str:
    return str(arguments.get("address", ""))


@tool(effects="idempotent", timeout_s=60, asks=asks, subject=subject, to_places=True)
async def send_message(
    ctx: ToolContext,
    text: Annotated[str, "What to say."],
    address: Annotated[
        str, "Where to: channel and place, for example slack:C024BE91L or file:notes; empty: where this turn came from."
    ] = "",
    files: Annotated[tuple[str, ...], f"Paths of files to send with it, at most {FILES}, 16 MiB each."] = (),
) -> str:
    """Send a message to a place of a channel, with files if you like. Your answer to this turn goes to where it came
    from anyway; a file gets there only with this tool."""
    if address and not ADDRESS.match(address):
        raise ToolError(f"{address!r} is no address: a channel and a place are, like file:notes")
    if not text.strip() or len(text.encode("utf-8", "replace")) > TEXT_BYTES:
        raise ToolError(f"the text must not be empty, and at most {TEXT_BYTES} bytes")
    if len(files) > FILES:
        raise ToolError(f"{len(files)} files are too many for one message: send at most {FILES}")
    await ctx.send(address, text, [await _read(ctx, path) for path in files])
    where = address.partition(":")[0] if address else "the channel that this turn came from"
    return f"Handed to {where}, which posts it once, now or when it is up."


async def _read(ctx: ToolContext, path: str) -> NamedFile:
    parts = components(ctx, path)

    def whole(file: BinaryIO) -> bytes:
        size = os.fstat(file.fileno()).st_size
        data = file.read(FILE_BYTES + 1)
        if max(size, len(data)) > FILE_BYTES:
            raise ToolError(f"{path} is too large to send: {size:,} bytes; the limit is {FILE_BYTES:,}")
        if not data:
            raise ToolError(f"{path} is empty: there is nothing to send")
        return data

    return NamedFile(PurePosixPath(*parts).name, await with_file(ctx, parts, whole, path=path))

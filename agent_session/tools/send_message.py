"""Send a message to a place of a channel, as a delivery: it waits durably until that channel is up, and is
posted once. A new place asks a person first; the place that the turn came from does not.
"""

import re
from typing import Annotated, Any

from agent_session.settings import ToolsSettings
from agent_session.tools.base import ToolContext, ToolError, tool

ADDRESS = re.compile(r"[a-z][a-z0-9_-]{0,31}:\S{1,220}\Z")
TEXT_BYTES = 64 * 1024


def asks(arguments: dict[str, Any], settings: ToolsSettings) -> str:
    """The place that a turn came from, and those that were allowed, are known to policy; others ask."""
    return f"{arguments.get('address', '')} is a new place to write to"


def subject(arguments: dict[str, Any]) -> str:
    return str(arguments.get("address", ""))


@tool(effects="idempotent", timeout_s=60, asks=asks, subject=subject, to_places=True)
async def send_message(
    ctx: ToolContext,
    address: Annotated[str, "Where to: channel and place, for example slack:C024BE91L or file:notes."],
    text: Annotated[str, "What to say."],
) -> str:
    """Send a message to a place of a channel. Your answer to this turn goes to where it came from anyway."""
    if not ADDRESS.match(address):
        raise ToolError(f"{address!r} is no address: a channel and a place are, like file:notes")
    if not text.strip() or len(text.encode("utf-8", "replace")) > TEXT_BYTES:
        raise ToolError(f"the text must not be empty, and at most {TEXT_BYTES} bytes")
    await ctx.send(address, text)
    return f"Handed to {address.partition(':')[0]}, which posts it once, now or when it is up."

"""Roll a die."""

import random
from typing import Annotated

from agent_session.tools.base import ToolContext, ToolError, tool


@tool(effects="none", timeout_s=5)
async def roll(ctx: ToolContext, sides: Annotated[int, "How many sides."] = 6) -> str:
    """Roll a die and say what came."""
    if sides < 1:
        raise ToolError("a die has at least one side")
    return str(random.randint(1, sides))

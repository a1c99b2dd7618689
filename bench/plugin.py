"""A model that takes no time and tools that do nothing, as a third party would bring them.

The worker finds them through entry points (`world.py` writes the metadata into a folder on its path). The
words of a message say what the model does: `say`, `par 3 100` (three calls in one step, 100 bytes each),
`seq 3 100` (three steps of one call), `stream 20` (tokens), `hold` (a call that never ends by itself),
`think 250` (an answer after so many milliseconds). Must not do work: what it does counts against the product.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from agent_session.models.base import Model, ModelAnswer, Prompt, RequestedCall
from agent_session.settings import Settings
from agent_session.tools import ToolContext, tool

PREFIXES = ("bench",)
HELD_FILE = "AGENT_BENCH_HELD"  #: environment: where `hold` writes who holds
CHARACTERS = "0123456789abcdef"
ENTRY_POINTS = "[agent_session.models]\nbench = bench.plugin\n[agent_session.tools]\nbench = bench.plugin\n"


class BenchModel:
    """Answers by rule, at once."""

    name = "bench"

    async def warm(self) -> None:
        return

    async def answer(self, prompt: Prompt, on_text: Callable[[str], None]) -> ModelAnswer:
        verb, *numbers = _words(prompt).split()
        given = [int(one) for one in numbers if one.isdecimal()]
        if verb in ("par", "seq") and prompt.tools:
            count, size = given
            many = count if verb == "par" else 1
            if prompt.step <= (1 if verb == "par" else count):
                return ModelAnswer("", [RequestedCall("bench_out", f'{{"size":{size},"n":{n}}}') for n in range(many)])
        if verb == "hold" and prompt.step == 1:
            return ModelAnswer("", [RequestedCall("bench_hold", "{}")])
        if verb == "think":
            await asyncio.sleep(given[0] / 1e3)
        for _ in range(given[0] if verb == "stream" else 1):
            on_text(f"{time.monotonic_ns()} ")
            await asyncio.sleep(0.005 if verb == "stream" else 0)
        return ModelAnswer("done")


def create(name: str, settings: Settings) -> Model:
    return BenchModel()


def _words(prompt: Prompt) -> str:
    for line in reversed(prompt.lines):
        if line.get("role") == "user":
            return str(line.get("content", ""))
    return "say"


@tool(effects="none")
async def bench_out(ctx: ToolContext, size: int, n: int) -> str:
    """Returns so many characters."""
    return (CHARACTERS * (size // len(CHARACTERS) + 1))[:size]


@tool(effects="side_effects")
async def bench_hold(ctx: ToolContext) -> str:
    """Says which process holds, and waits to be killed."""
    await ctx.before_effect()
    Path(os.environ[HELD_FILE]).write_text(str(os.getpid()))
    await asyncio.sleep(3_600)
    return ""

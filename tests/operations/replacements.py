"""An example replacement of each operation, as a package of its own would bring them."""

from collections.abc import Callable
from typing import Any

from agent_session.models.base import ModelAnswer, Prompt
from agent_session.operations import DefaultBuildPrompt, Services
from agent_session.tools import Tool, ToolContext
from agent_session.transcript.log import Proof
from agent_session.transcript.recorder import JsonlRecorder, Recorded


class TersePrompt(DefaultBuildPrompt):
    """Our window, other instructions."""

    async def __call__(self, key: str, turn: str, n: int, step: int, *, last_step: bool) -> Prompt:
        prompt = await super().__call__(key, turn, n, step, last_step=last_step)
        return Prompt("Be terse.", prompt.lines[-1:], prompt.tools, key, turn, n, step)


class EchoModel:
    """Calls no model at all."""

    def __init__(self, services: Services) -> None:
        pass

    async def __call__(self, prompt: Prompt, on_text: Callable[[str], None]) -> ModelAnswer:
        return ModelAnswer(f"{prompt.instructions} {prompt.lines[-1]['content']}")


class ShoutingTools:
    """Runs the tool, and shouts its result."""

    def __init__(self, services: Services) -> None:
        pass

    async def __call__(self, tool: Tool, arguments: dict[str, Any], ctx: ToolContext) -> str:
        return (await tool.function(ctx, **arguments)).upper()


class MirroringRecorder(JsonlRecorder):
    """Our transcript, and a copy of each result beside it."""

    async def result(self, key: str, turn: str, result: dict[str, Any], proof: Proof) -> Recorded:
        recorded = await super().result(key, turn, result, proof)
        with open(self.volume.root / "mirror.txt", "a") as mirror:
            mirror.write(str(recorded.line["content"]))
        return recorded


def mirroring(services: Services) -> MirroringRecorder:
    return MirroringRecorder(services.volume)

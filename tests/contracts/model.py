"""What every model promises: `check_model(model)` talks to it, `check_refusal` asks for one that is none."""

import asyncio
import json
from types import ModuleType
from typing import Any

import pytest

from agent_session.domain.failures import ADVICE
from agent_session.models.base import Model, ModelAnswer, ModelFault, Prompt, ToolSpec
from agent_session.settings import Settings

NO_TOOLS: list[ToolSpec] = []


def prompt(text: str, tools: list[ToolSpec] = NO_TOOLS, *, turn: str = "t") -> Prompt:
    """A first turn in which a person says `text`."""
    line = {"seq": 1, "role": "user", "turn": turn, "n": 1, "content": text}
    return Prompt(instructions="", lines=[line], tools=tools, session="s", turn=turn, n=1, step=1)


async def check_model(model: Model, text: str = "hello") -> None:
    """It answers, streams the very words of its answer, serves several sessions at once, and calls no tool
    that was not offered."""
    assert model.name
    await model.warm()
    streamed, answer = await ask(model, prompt(text))
    assert answer.text == "".join(streamed), "what watchers saw is what the transcript gets"
    assert answer.calls == [], "no tool was offered"
    assert min(answer.input_tokens, answer.output_tokens) >= 0
    several = await asyncio.gather(*(ask(model, prompt(text, turn=str(number))) for number in range(5)))
    assert all("".join(pieces) == one.text for pieces, one in several), "one object serves many sessions at once"


async def check_calls(model: Model, text: str, tool: ToolSpec, **arguments: Any) -> None:
    """Asked with `text`, it calls this tool with these arguments."""
    _, answer = await ask(model, prompt(text, [tool]))
    assert [(call.name, json.loads(call.args)) for call in answer.calls] == [(tool.name, arguments)]


async def ask(model: Model, asked: Prompt) -> tuple[list[str], ModelAnswer]:
    streamed: list[str] = []
    answer = await model.answer(asked, streamed.append)
    assert isinstance(answer, ModelAnswer)
    return streamed, answer


def check_fault(fault: ModelFault) -> None:
    """A fault that the engine understands: a class word with advice, and words for the log."""
    assert fault.kind in ADVICE, f"{fault.kind!r} is none of: {', '.join(ADVICE)}"
    assert str(fault).strip()
    assert fault.retry_after_s >= 0


def check_refusal(module: ModuleType, name: str, settings: Settings) -> None:
    """A name that the module cannot make is refused at start, for good, in words that say what to set."""
    assert module.PREFIXES, "the first parts of the names that it makes"
    with pytest.raises(ModelFault, match="model") as refused:
        module.create(name, settings)
    check_fault(refused.value)
    assert refused.value.kind == "model_setup"
    assert not refused.value.transient

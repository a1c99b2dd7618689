"""The contracts refuse what breaks them: a check that nothing can fail checks nothing."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_session.domain.outbound import Outbound
from agent_session.models.base import ModelAnswer, ModelFault, Prompt, RequestedCall
from agent_session.models.offline import OfflineModel
from agent_session.tools.base import ToolContext, tool
from channels.base import Capabilities
from tests.contracts.channel import check_channel
from tests.contracts.model import check_fault, check_model
from tests.contracts.tool import check_call, check_schema, check_tool


async def test_a_tool_that_acts_before_it_asks_or_says_no_text(tmp_path: Path) -> None:
    @tool(effects="side_effects")
    async def hasty(ctx: ToolContext) -> str:
        """Write first, ask later."""
        (ctx.workspace / "f").touch()
        await ctx.before_effect()
        return "done"

    @tool(effects="side_effects")
    async def reckless(ctx: ToolContext) -> str:
        """Never ask."""
        return "done"

    @tool(effects="none")
    async def mute(ctx: ToolContext) -> str:
        """Say nothing."""
        return None  # type: ignore[return-value]

    for wrong in (hasty, mute):
        check_tool(wrong)
        with pytest.raises(AssertionError):
            await check_call(wrong, tmp_path)
    with pytest.raises(BaseException, match="DID NOT RAISE"):
        await check_call(reckless, tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"additionalProperties": True}, {"type": "array"}, {"required": ["b"]}, {"properties": {"a": {}}}],
)
def test_a_schema_that_says_too_little(change: dict[str, Any]) -> None:
    good: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    check_schema(good)
    with pytest.raises(AssertionError):
        check_schema(good | change)


class Forgetful:
    """Posts whatever it is handed, wherever."""

    name, capabilities = "forgetful", Capabilities(delivers=True)

    def __init__(self, places: tuple[str, ...] = ()) -> None:
        self.posted: list[str] = []
        self._bad = places

    async def run(self, client: Any) -> None:
        await asyncio.Event().wait()

    def check_place(self, place: str) -> None:
        if place in self._bad:
            raise ValueError("no such place")

    async def deliver(self, out: Outbound) -> None:
        self.posted.append(out.text)

    async def probe(self) -> str:
        return ""


async def test_a_channel_that_posts_twice_or_anywhere() -> None:
    twice = Forgetful()
    with pytest.raises(AssertionError, match="look the reply's id up"):
        await check_channel(twice, place="x", posted=lambda: twice.posted)
    anywhere = Forgetful(("..",))
    with pytest.raises(BaseException, match="DID NOT RAISE"):
        await check_channel(anywhere, place="x", bad_places=[".."], posted=lambda: list(dict.fromkeys(anywhere.posted)))


class Liar(OfflineModel):
    async def answer(self, prompt: Prompt, on_text: Callable[[str], None]) -> ModelAnswer:
        on_text("I will not")
        return ModelAnswer("I will")


class Busybody(OfflineModel):
    async def answer(self, prompt: Prompt, on_text: Callable[[str], None]) -> ModelAnswer:
        return ModelAnswer("", [RequestedCall("shell", "{}")])


async def test_a_model_that_streams_other_words_or_calls_what_was_not_offered() -> None:
    for wrong in (Liar(), Busybody()):
        with pytest.raises(AssertionError):
            await check_model(wrong)
    with pytest.raises(AssertionError, match="none of"):
        check_fault(ModelFault("moody", "not today", transient=True))

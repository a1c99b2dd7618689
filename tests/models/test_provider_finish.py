"""Why an answer ended is what the provider said, for the traces: never a guess from what is in it."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from agent_session.models.base import ModelAnswer, Prompt, RequestedCall, ToolSpec
from agent_session.models.providers import ProviderBackedModel
from agent_session.settings import load_settings
from agent_session.telemetry.measure import ModelCall, _answered
from tests.fakes.providers import FakeProvider, _chunk, _stream, calls, fake_provider, says


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeProvider]:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    async with fake_provider() as made:
        yield made


def ending(finish: str) -> Any:
    async def step(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await _stream(request)
        await response.write(_chunk({"role": "assistant", "content": "Once upon a"}))
        await response.write(_chunk({}, finish))
        await response.write(b"data: [DONE]\n\n")
        return response

    return step


@pytest.mark.parametrize(
    ("step", "reasons"),
    [
        (says("Yes."), ["stop"]),
        (calls(("look", "{}")), ["tool_call"]),
        (ending("length"), ["length"]),
    ],
)
async def test_the_reason_is_the_providers_own(provider: FakeProvider, step: Any, reasons: list[str]) -> None:
    provider.will(step)
    settings = load_settings({"model": {"name": "openai-chat:gpt-5-mini", "base_url": provider.url + "/v1"}})
    tool = ToolSpec("look", "Look.", {"type": "object", "properties": {}})
    said = [{"role": "user", "turn": "t", "content": "hi"}]
    call = ModelCall("openai-chat:gpt-5-mini")
    model = ProviderBackedModel(settings.model.name, settings, None)
    call.answer = await model.answer(Prompt("Be brief.", said, [tool], "main", "t", 1, 1), lambda text: None)
    assert _answered(call).get("gen_ai.response.finish_reasons") == reasons


def test_a_model_that_does_not_say_why_it_ended_has_no_reason() -> None:
    call = ModelCall("polly:one")
    call.answer = ModelAnswer("", [RequestedCall("look", "{}")])
    assert "gen_ai.response.finish_reasons" not in _answered(call)

"""OpenAI's responses by OpenAI's own client: going on with an earlier one, streams, and ids that belong to a token."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

from agent_session.gateway.app import ROUTES
from agent_session.gateway.openapi import description
from tests.fakes.providers import FakeProvider, breaks_after
from tests.gateway.openai_support import client, provider, scripted, streaming
from tests.gateway.support import Door, door
from tests.support import Service, fresh_key

__all__ = ["provider", "scripted"]  # fixtures
SAME_REACH = """
[tokens.one]
token = "one-token-0123456789"
prefixes = [""]
[tokens.two]
token = "two-token-0123456789"
prefixes = [""]
"""


async def test_a_text_is_answered_and_the_next_goes_on_behind_it(gateway: Door) -> None:
    own = client(gateway)
    first = await own.responses.create(model="any", input="remember blue")
    second = await own.responses.create(model="any", input="what did I say?", previous_response_id=first.id)
    assert (first.status, first.output_text) == ("completed", "I will remember: blue")
    assert (second.output_text, second.previous_response_id) == ("You said: remember blue", first.id)
    assert second.model == "offline"
    assert second.usage is not None
    assert second.usage.output_tokens > 0
    assert first.id != second.id


async def test_a_session_can_be_named(gateway: Door) -> None:
    key = fresh_key()
    await client(gateway).responses.create(model="m", user=key, input="one")
    items: Any = [
        {"role": "assistant", "content": "…"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "two"}]},
    ]
    await client(gateway).responses.create(model="m", input=items, extra_headers={"X-Session-Key": key})
    assert gateway.service.said(key) == ["one", "two"]


async def test_the_stream_has_openais_events_in_their_order(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    async with streaming(service), door(service) as opened:
        stream = await client(opened).responses.create(model="m", input="one two three", stream=True)
        events: list[Any] = [event async for event in stream]
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) > 3
    assert "".join(deltas) == events[-1].response.output_text
    assert "one two three" in events[-1].response.output_text
    assert len({event.response.id for event in events if hasattr(event, "response")}) == 1


async def test_a_turn_that_fails_in_a_stream_is_a_failed_response(scripted: Service, provider: FakeProvider) -> None:
    provider.will(breaks_after("Perhaps "))
    async with streaming(scripted), door(scripted) as opened:
        stream = await client(opened).responses.create(model="m", input="x", stream=True)
        events: list[Any] = [event async for event in stream]
    assert "Perhaps " in [event.delta for event in events if event.type == "response.output_text.delta"]
    assert events[-1].type == "response.failed"
    assert events[-1].response.status == "failed"
    assert events[-1].response.error.code == "turn_failed"


async def test_an_id_is_of_use_to_its_token_alone(service: Service, tmp_path: Path) -> None:
    """I10: even where both tokens reach every session."""
    path = tmp_path / "tokens"
    path.write_text(SAME_REACH)
    path.chmod(0o600)
    async with door(service, token_file=path) as opened:
        one, two = (client(opened, token=f"{name}-token-0123456789") for name in ("one", "two"))
        key = fresh_key()
        mine = await one.responses.create(model="m", input="a secret", user=key)
        broken = mine.id[:-2] + ("A" if mine.id[-2] != "A" else "B") + mine.id[-1]
        for own, id in [
            (two, mine.id),
            (one, broken),
            (one, "resp_"),
            (one, "resp_***"),
            (one, mine.id[5:]),
            (one, "é"),
        ]:
            with pytest.raises(openai.NotFoundError) as refused:
                await own.responses.create(model="m", input="what did I say?", previous_response_id=id)
            assert refused.value.code == "no_such_response"
        path.write_text(SAME_REACH.replace('prefixes = [""]', 'prefixes = ["elsewhere"]', 1))
        with pytest.raises(openai.NotFoundError):
            await one.responses.create(model="m", input="what did I say?", previous_response_id=mine.id)
    assert service.said(key) == ["a secret"]


async def test_a_retry_gets_the_same_response(gateway: Door) -> None:
    async def ask(retry: int, **more: Any) -> Any:
        header = {"X-Stainless-Retry-Count": str(retry)}
        return await client(gateway).responses.create(model="m", input="go on", extra_headers=header, **more)

    first = await ask(0)
    assert (await ask(1)).id == first.id
    second, third = await ask(0, previous_response_id=first.id), await ask(0, previous_response_id=first.id)
    assert (await ask(1, previous_response_id=first.id)).id == third.id
    assert len({first.id, second.id, third.id}) == 3


@pytest.mark.parametrize(("more", "param"), [
    ({"tools": [{"type": "web_search"}]}, "tools"),
    ({"text": {"format": {"type": "json_object"}}}, "text.format"),
    ({"background": True}, "background"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "p"}}, "prompt"),
    ({"input": []}, "input"),
    ({"input": ""}, "input"),
    ({"input": [{"type": "function_call_output", "call_id": "c", "output": "o"}]}, "input"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input.0.content.0"),
])  # fmt: skip
async def test_what_would_change_the_meaning_is_refused_by_name(gateway: Door, more: Any, param: str) -> None:
    refused = await gateway.post("/v1/responses", json={"model": "m", "input": "hello", **more})
    assert (refused.status, refused.json["error"]["param"]) == (400, param)


async def test_what_only_tunes_a_model_is_ignored(gateway: Door) -> None:
    tuned: Any = {
        "instructions": "be rude", "temperature": 0.2, "max_output_tokens": 16, "reasoning": {"effort": "low"},
        "store": False, "truncation": "auto", "text": {"format": {"type": "text"}, "verbosity": "low"}, "tools": [],
    }  # fmt: skip
    made = await client(gateway).responses.create(model="m", input="hello", **tuned)
    assert "hello" in made.output_text


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_whatever_is_sent_it_is_answered_or_refused_as_described(gateway: Door, path: str) -> None:
    operation = schemathesis.openapi.from_dict(description(ROUTES))[path]["POST"]

    @given(case=operation.as_strategy())
    @settings(
        max_examples=40, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    def conforms(case: Any) -> None:
        headers = {"Authorization": f"Bearer {gateway.token}"}
        response = case.call(base_url=gateway.url, headers=headers, timeout=60)
        case.validate_response(response, checks=[not_a_server_error, status_code_conformance], headers=headers)

    await asyncio.to_thread(conforms)

"""Streams: in pieces, through retries of the model, without the live bus, to their end."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_session.gateway.openai_shown import ANEW, BETWEEN_STEPS, Shown
from agent_session.live.events import DELTA, RETRY, STEP, TURN_STARTED, LiveEvent
from tests.fakes.providers import FakeProvider, breaks_after, calls, says
from tests.gateway.openai_support import (
    chat,
    client,
    provider,
    scripted,
    streamed,
    streaming,
    text_of,
    transcripts,
    user,
)
from tests.gateway.support import Door, door
from tests.support import Service, fresh_key

__all__ = ["provider", "scripted"]  # fixtures


async def test_the_stream_comes_in_pieces_with_a_role_first_and_usage_last(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    async with streaming(service), door(service) as opened:
        chunks = await streamed(opened, fresh_key(), "one two three four", stream_options={"include_usage": True})
    first, *_, last, usage = chunks
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert "I heard “one two three four”" in text_of(chunks)
    assert len(chunks) > 6
    assert (last.choices[0].finish_reason, last.model) == ("stop", "offline")
    assert usage.choices == []
    assert usage.usage.completion_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


async def test_without_the_live_bus_the_answer_comes_whole_at_the_end(gateway: Door) -> None:
    chunks = await streamed(gateway, fresh_key(), "hello there")
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert len(pieces) == 1
    assert "hello there" in pieces[0]


async def test_a_stream_shows_every_step_and_the_plain_answer_is_the_last(
    scripted: Service, provider: FakeProvider
) -> None:
    provider.will(calls(("shell", '{"command": "echo x"}'), text="I look."), says("It says x."))
    async with streaming(scripted), door(scripted) as opened:
        key = fresh_key()
        chunks = await streamed(opened, key, "look")
        again = await chat(opened, key, "look", extra_headers={"X-Stainless-Retry-Count": "1"})
    assert text_of(chunks) == f"I look.{BETWEEN_STEPS}It says x."
    assert again == "It says x."
    assert len(provider.requests) == 2


async def test_an_attempt_that_breaks_off_is_not_shown_twice(scripted: Service, provider: FakeProvider) -> None:
    provider.will(breaks_after("The answer "), says("The answer is 42."))
    async with streaming(scripted), door(scripted) as opened:
        assert text_of(await streamed(opened, fresh_key(), "a")) == "The answer is 42."
        provider.will(breaks_after("Perhaps "), says("Certainly."))
        assert text_of(await streamed(opened, fresh_key(), "b")) == f"Perhaps {ANEW}Certainly."


async def test_a_turn_that_fails_in_mid_stream_ends_it_with_an_error(scripted: Service, provider: FakeProvider) -> None:
    provider.will(breaks_after("Perhaps "))
    async with streaming(scripted), door(scripted) as opened:
        body = {"model": "m", "user": fresh_key(), "stream": True, "messages": [user("x")]}
        stream = await opened.post("/v1/chat/completions", json=body)
    *chunks, last = [json.loads(part[6:]) for part in stream.raw.decode().strip().split("\n\n")]
    assert stream.status == 200
    assert chunks[1]["choices"][0]["delta"] == {"content": "Perhaps "}
    assert (last["error"]["code"], last["error"]["request_id"]) == ("turn_failed", stream.headers["X-Request-ID"])
    assert b"[DONE]" not in stream.raw


async def test_a_client_that_leaves_a_stream_stops_nothing(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    async with streaming(service), door(service) as opened:
        key, said = fresh_key(), "tools run sleep 3; run echo done"
        stream = await client(opened).chat.completions.create(model="m", user=key, messages=[user(said)], stream=True)
        await anext(aiter(stream))
        await stream.close()
        assert "done" in await chat(opened, key, said)
    assert len(service.said(key)) == 1


async def test_a_stopping_gateway_ends_its_streams_with_an_error(gateway: Door) -> None:
    asked = asyncio.create_task(streamed(gateway, fresh_key(), "sleep 20"))
    plain = asyncio.create_task(chat(gateway, fresh_key(), "sleep 20"))
    async with asyncio.timeout(20):
        while len([row async for row in transcripts(gateway)]) < 2:
            await asyncio.sleep(0.02)
    gateway.gateway.stopping.set()
    with pytest.raises(openai.APIError) as error:
        await asked
    with pytest.raises(openai.InternalServerError) as refused:
        await plain
    assert error.value.code == refused.value.code == "stopping"
    assert refused.value.status_code == 503


async def test_a_stream_that_is_quiet_is_kept_alive(gateway: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_session.gateway.openai_answers.KEEP_ALIVE_S", 0.5)
    body = {"model": "m", "user": fresh_key(), "stream": True, "messages": [user("sleep 3")]}
    stream = await gateway.post("/v1/chat/completions", json=body)
    assert stream.headers["Content-Type"] == "text/event-stream"
    assert stream.raw.count(b": keep-alive\n\n") >= 2
    assert stream.raw.endswith(b"data: [DONE]\n\n")
    assert all(json.loads(part[6:])["id"] for part in stream.raw.decode().split("\n\n") if part.startswith("data: {"))


def live(kind: str, step: int = 1, text: str = "", **more: str) -> LiveEvent:
    return LiveEvent(session="s", turn=more.pop("turn", "t"), kind=kind, step=step, text=text, **more)


@given(st.lists(st.lists(st.text("ab", max_size=3), max_size=4), min_size=1, max_size=4), st.text("ab", max_size=6))
def test_whatever_broke_off_a_stream_ends_with_the_whole_reply(attempts: list[list[str]], reply: str) -> None:
    """What is sent is only ever more, and what stands behind the last note is the reply."""
    shown = Shown("m")
    sent = shown.take(live(TURN_STARTED, call="m"))
    for pieces in attempts:
        sent += shown.take(live(STEP))
        for piece in pieces:
            sent += shown.take(live(DELTA, text=piece))
        sent += shown.take(live(RETRY))
    sent += shown.end(1, reply)
    last = sent.rpartition(ANEW)[2]
    assert last.startswith(reply) if reply else True
    assert sent == sent.strip("\n")


def test_events_of_other_turns_are_passed_over() -> None:
    shown = Shown("mine")
    seen = [
        shown.take(event)
        for event in (
            live(TURN_STARTED, turn="t1", call="another"),
            live(DELTA, turn="t1", text="not this"),
            live(TURN_STARTED, turn="t2", call="mine"),
            live(DELTA, turn="t2", text="but this"),
            live(DELTA, turn="t1", text="nor this"),
        )
    ]
    assert "".join(seen) == "but this"

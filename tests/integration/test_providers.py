"""Real providers' protocols, through their own SDKs: what works, and how each fault ends."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.fakes.providers import (
    FakeProvider,
    anthropic,
    breaks_after,
    calls,
    fails,
    fake_provider,
    garbage,
    hangs,
    says,
)
from tests.support import Service, check_transcript, fresh_key


@pytest.fixture
async def provider() -> AsyncIterator[FakeProvider]:
    async with fake_provider() as made:
        yield made


@pytest.fixture
async def talk(
    make_service: Callable[..., Any], provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    """A service whose model is the fake OpenAI server."""
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key")
    service: Service = await make_service(
        model={"name": "openai-chat:fake", "base_url": provider.url + "/v1", "attempts": 3, "max_steps": 5},
        tools={"shell": {"sandbox": "none"}},
    )
    async with service.worker():
        yield service


async def test_a_streamed_answer_with_its_usage(talk: Service, provider: FakeProvider) -> None:
    provider.will(says("Hello there."))
    key = fresh_key()
    assert (await talk.ask(key, "hi")).text == "Hello there."
    status = await talk.client.status(key)
    assert (status.input_tokens, status.output_tokens) == (11, 7)
    assert status.model == "openai-chat:fake"
    assert provider.requests[0]["messages"][-1] == {"role": "user", "content": "hi"}


async def test_a_tool_loop_uses_our_call_ids_and_the_transcripts_own_order(
    talk: Service, provider: FakeProvider
) -> None:
    provider.will(
        calls(("shell", '{"command": "echo one"}'), ("shell", '{"command": "echo two"}')),
        calls(("shell", '{"command": "echo three"}')),  # the same provider id as before: they do repeat
        says("Done."),
    )
    key = fresh_key()
    assert (await talk.ask(key, "count")).text == "Done."
    results = [line["content"].strip() for line in talk.lines(key) if line["role"] == "tool"]
    assert sorted(results) == ["one", "three", "two"]
    sent = provider.requests[-1]["messages"]
    asked = [call["id"] for message in sent for call in message.get("tool_calls") or []]
    assert asked == sorted(set(asked))
    assert {message["tool_call_id"] for message in sent if message["role"] == "tool"} == set(asked)
    check_transcript(talk.lines(key))


async def test_the_workspaces_agents_file_is_part_of_the_prompt(talk: Service, provider: FakeProvider) -> None:
    provider.will(calls(("write_file", '{"path": "AGENTS.md", "text": "Always rhyme."}')), says("Done."))
    key = fresh_key()
    await talk.ask(key, "be a poet")
    first, second = (request["messages"][0] for request in provider.requests)
    assert "Always rhyme." not in str(first)
    assert second["role"] == "system"
    assert "Always rhyme." in second["content"]


async def test_faults_that_pass_are_retried_and_answered_once(talk: Service, provider: FakeProvider) -> None:
    provider.will(fails(500), breaks_after("half an ans"), says("Whole."))
    key = fresh_key()
    assert (await talk.ask(key, "hi")).text == "Whole."
    assert len(provider.requests) == 3
    assert [line["content"] for line in talk.lines(key) if line["role"] == "assistant"] == ["Whole."]


async def test_retry_after_is_honoured(talk: Service, provider: FakeProvider) -> None:
    provider.will(fails(429, **{"Retry-After": "3"}), says("Later."))
    began = time.monotonic()
    assert (await talk.ask(fresh_key(), "hi")).text == "Later."
    assert time.monotonic() - began >= 3


@pytest.mark.parametrize(
    ("step", "requests", "words"),
    [
        (fails(401), 1, "refused the API key"),
        (fails(400), 1, "refused the request"),
        (fails(404), 1, "refused the request"),
        (fails(500), 3, "failed again and again"),
        (fails(503), 3, "overloaded"),
        (garbage(), 3, "could not be read"),
        (says(" "), 3, "could not be read"),
    ],
)
async def test_a_fault_that_stays_ends_the_turn_with_advice_and_the_session_lives(
    talk: Service, provider: FakeProvider, step: Any, requests: int, words: str
) -> None:
    provider.will(step)
    key = fresh_key()
    reply = await talk.ask(key, "hi")
    assert reply.outcome == "failed"
    assert words in reply.text
    assert len(provider.requests) == requests
    provider.will(says("Well again."))
    assert (await talk.ask(key, "and now?")).text == "Well again."
    check_transcript(talk.lines(key))


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("no_such_tool", "{}", "no tool"),
        ("shell", "{not json", "not JSON"),
        ("shell", "[]", "object"),
        ("shell", '{"command": 7}', "command"),
        ("shell", "{}", "command"),
        ("read_file", '{"path": "a", "colour": "blue"}', "colour"),
    ],
)
async def test_a_call_that_cannot_be_run_is_a_result_that_the_model_reads(
    talk: Service, provider: FakeProvider, name: str, arguments: str, words: str
) -> None:
    provider.will(calls((name, arguments)), says("I see."))
    key = fresh_key()
    assert (await talk.ask(key, "go")).text == "I see."
    told = [message["content"] for message in provider.requests[-1]["messages"] if message["role"] == "tool"]
    assert words in told[0]
    check_transcript(talk.lines(key))


async def test_seventy_calls_at_once_run_sixty_four_and_say_so(talk: Service, provider: FakeProvider) -> None:
    provider.will(calls(*[("list_dir", "{}")] * 70), says("Enough."))
    key = fresh_key()
    assert (await talk.ask(key, "go")).text == "Enough."
    outcomes = [line["outcome"] for line in talk.lines(key) if line["role"] == "tool"]
    assert (outcomes.count("ok"), outcomes.count("refused")) == (64, 6)
    check_transcript(talk.lines(key))


async def test_a_model_that_never_stops_calling_meets_the_step_limit(talk: Service, provider: FakeProvider) -> None:
    provider.will(calls(("list_dir", "{}")))
    key = fresh_key()
    reply = await talk.ask(key, "go")
    assert reply.outcome == "failed"
    assert "number of steps" in reply.text
    assert len(provider.requests) == 5
    assert "tools" not in provider.requests[-1]
    check_transcript(talk.lines(key))


async def test_an_answer_of_two_megabytes_arrives_whole(talk: Service, provider: FakeProvider) -> None:
    text = "word " * 400_000
    provider.will(says(text, pieces=50))
    key = fresh_key()
    assert (await talk.ask(key, "go")).text == text
    assert max(event.ByteSize() for event in await talk.events(key)) < 4 * 1024


async def test_a_model_that_hangs_can_be_cancelled(talk: Service, provider: FakeProvider) -> None:
    provider.will(hangs())
    key = fresh_key()
    await talk.client.send(key, "hi", id="m")
    await talk.until(key, lambda status: status.state == "running")
    async with asyncio.timeout(10):
        while not provider.requests:
            await asyncio.sleep(0.05)
    await talk.client.cancel(key)
    assert (await talk.client.await_reply(key, "m", timeout_s=10)).outcome == "cancelled"


async def test_a_paid_answer_is_not_paid_twice_while_the_volume_is_away(talk: Service, provider: FakeProvider) -> None:
    key = fresh_key()
    provider.will(says("First."))
    await talk.ask(key, "hi")
    marker = talk.settings.data_dir / ".agent-session-volume"

    async def then_lose_the_volume(request: Any, body: Any) -> Any:
        marker.rename(marker.with_suffix(".away"))
        return await says("Paid.")(request, body)

    provider.will(then_lose_the_volume)
    waiting = asyncio.create_task(talk.ask(key, "again"))
    await asyncio.sleep(6)
    assert not waiting.done()
    marker.with_suffix(".away").rename(marker)
    assert (await waiting).text == "Paid."
    assert len(provider.requests) == 2


async def test_a_real_model_gets_no_shell_until_a_setting_says_so(
    make_service: Callable[..., Any], provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    service: Service = await make_service(model={"name": "openai-chat:fake", "base_url": provider.url + "/v1"})
    provider.will(calls(("shell", '{"command": "echo x"}')), says("A pity."))
    async with service.worker():
        key = fresh_key()
        assert (await service.ask(key, "go")).text == "A pity."
    offered = {tool["function"]["name"] for tool in provider.requests[0]["tools"]}
    assert "shell" not in offered
    assert [line["outcome"] for line in service.lines(key) if line["role"] == "tool"] == ["refused"]


async def test_anthropics_thinking_goes_back_with_its_signature(
    make_service: Callable[..., Any], provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    service: Service = await make_service(model={"name": "anthropic:fake", "base_url": provider.url})
    provider.will(
        anthropic(
            {"type": "thinking", "thinking": "Let me look.", "signature": "signed"},
            {"type": "tool_use", "id": "../../evil", "name": "list_dir", "input": {}},
        ),
        anthropic({"type": "text", "text": "Empty."}),
    )
    async with service.worker():
        key = fresh_key()
        assert (await service.ask(key, "look")).text == "Empty."
    sent = json.dumps(provider.requests[-1]["messages"])
    assert '"signature": "signed"' in sent
    assert "../../evil" not in sent
    check_transcript(service.lines(key))

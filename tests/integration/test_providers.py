"""Real providers' protocols, through their own SDKs: what works, and how each fault ends."""

import asyncio
import base64
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agent_session.live.events import DELTA, RETRY, LiveEvent
from tests.fakes.providers import (
    FakeProvider,
    anthropic,
    breaks_after,
    calls,
    fails,
    fake_provider,
    filtered,
    garbage,
    hangs,
    says,
)
from tests.support import Service, check_transcript, fresh_key

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")


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
    async with service.worker() as services:
        service.services = services
        yield service


class Seen:
    """A watcher of everything."""

    def __init__(self) -> None:
        self.events: list[LiveEvent] = []

    def publish(self, event: LiveEvent) -> None:
        self.events.append(event)

    def retries(self) -> list[str]:
        return [event.text for event in self.events if event.kind == RETRY]


def watched(service: Service) -> Seen:
    assert service.services is not None
    service.services.live = seen = Seen()
    return seen


async def test_a_streamed_answer_with_its_usage(talk: Service, provider: FakeProvider) -> None:
    provider.will(says("Hello there."))
    key = fresh_key()
    assert (await talk.ask(key, "hi")).text == "Hello there."
    status = await talk.until(key, lambda status: status.turns == 1)
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
    provider.will(says("Done."))
    key = fresh_key()
    await talk.ask(key, "be a poet")
    (talk.volume.path_of(key) / "workspace" / "AGENTS.md").write_text("Always rhyme.")
    await talk.ask(key, "and now?")
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


async def test_retry_after_is_honoured_and_watchers_see_the_wait(talk: Service, provider: FakeProvider) -> None:
    seen = watched(talk)
    provider.will(fails(429, **{"Retry-After": "3"}), says("Later."))
    began = time.monotonic()
    assert (await talk.ask(fresh_key(), "hi")).text == "Later."
    assert time.monotonic() - began >= 3
    assert seen.retries() == ["rate limited: retrying in 4 s (2nd try)"]


async def test_watchers_see_why_and_how_often_it_is_tried_again(talk: Service, provider: FakeProvider) -> None:
    seen = watched(talk)
    provider.will(fails(529), breaks_after("half an ans"), says("Whole."))
    assert (await talk.ask(fresh_key(), "hi")).text == "Whole."
    first, second = seen.retries()
    assert re.fullmatch(r"the provider is overloaded: retrying in [12] s \(2nd try\)", first)
    assert re.fullmatch(r"the provider could not be reached: retrying in [23] s \(3rd try\)", second)
    kinds = [event.kind for event in seen.events]
    assert kinds.index(DELTA) < len(kinds) - kinds[::-1].index(RETRY) - 1, "what is void was shown before"


def coded(code: str) -> dict[str, Any]:
    """An error's body as OpenAI words it."""
    return {"error": {"message": f"scripted {code}", "type": "invalid_request_error", "code": code, "param": None}}


@pytest.mark.parametrize(
    ("step", "requests", "words"),
    [
        pytest.param(fails(401), 1, "refused the API key", id="bad-key"),
        pytest.param(fails(400), 1, "refused the request", id="bad-request"),
        pytest.param(fails(404), 1, "refused the request", id="no-such-model"),
        pytest.param(fails(400, coded("context_length_exceeded")), 1, "no longer fits the model", id="overflow"),
        pytest.param(fails(429, coded("insufficient_quota")), 1, "quota or credit is used up", id="quota"),
        pytest.param(filtered(), 1, "content filter", id="filter"),
        pytest.param(fails(429), 3, "limiting requests", id="rate-limit"),
        pytest.param(fails(500), 3, "failed again and again", id="500"),
        pytest.param(fails(503), 3, "overloaded", id="503"),
        pytest.param(fails(529), 3, "overloaded", id="529"),
        pytest.param(breaks_after("half an ans"), 3, "could not be reached", id="half-a-stream"),
        pytest.param(garbage(), 3, "could not be read", id="garbage"),
        pytest.param(says(" "), 3, "could not be read", id="empty"),
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


async def test_a_provider_that_never_ends_its_answer_times_out_and_the_session_lives(
    make_service: Callable[..., Any], provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    service: Service = await make_service(
        model={"name": "openai-chat:fake", "base_url": provider.url + "/v1", "attempts": 2, "timeout_s": 1}
    )
    provider.will(hangs())
    async with service.worker():
        key = fresh_key()
        reply = await service.ask(key, "hi")
        assert (reply.outcome, len(provider.requests)) == ("failed", 2)
        assert "longer than it may" in reply.text
        provider.will(says("Well again."))
        assert (await service.ask(key, "and now?")).text == "Well again."
        check_transcript(service.lines(key))


async def test_a_provider_that_is_not_there_is_named_and_the_session_lives(
    make_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    service: Service = await make_service(
        model={"name": "openai-chat:fake", "base_url": "http://127.0.0.1:9/v1", "attempts": 2}
    )
    async with service.worker():
        key = fresh_key()
        for _ in range(2):
            reply = await service.ask(key, "hi")
            assert reply.outcome == "failed"
            assert "could not be reached" in reply.text
        check_transcript(service.lines(key))


async def test_a_picture_that_a_person_sends_reaches_the_model(
    talk: Service, provider: FakeProvider, tmp_path: Path
) -> None:
    (tmp_path / "dot.png").write_bytes(PNG)
    (tmp_path / "fake.png").write_bytes(b"no picture at all")
    provider.will(says("A dot."))
    key = fresh_key()
    attached = [tmp_path / "dot.png", tmp_path / "fake.png"]
    assert (await talk.ask(key, "what is this?", attachments=attached)).text == "A dot."
    await talk.ask(key, "are you sure?")
    for request in provider.requests:  # also in the next turn
        content = next(one["content"] for one in request["messages"] if "what is this?" in str(one["content"]))
        assert [part["type"] for part in content] == ["text", "image_url"]
        assert "dot.png" in content[0]["text"]
        assert content[1]["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


async def test_a_picture_that_the_provider_refuses_fails_one_turn_and_not_those_after_it(
    talk: Service, provider: FakeProvider, tmp_path: Path
) -> None:
    (tmp_path / "dot.png").write_bytes(PNG)

    async def refuses_pictures(request: Any, body: Any) -> Any:
        return await (fails(400) if "image_url" in str(body) else says("Words I can."))(request, body)

    provider.will(refuses_pictures)
    key = fresh_key()
    assert (await talk.ask(key, "what is this?", attachments=[tmp_path / "dot.png"])).outcome == "failed"
    assert (await talk.ask(key, "and now?")).text == "Words I can."


async def test_only_the_newest_eight_pictures_are_sent(talk: Service, provider: FakeProvider, tmp_path: Path) -> None:
    provider.will(says("Nice."))
    key = fresh_key()
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes(PNG + bytes([number]))
        await talk.ask(key, f"picture {number}", attachments=[tmp_path / f"{number}.png"])
    sent = provider.requests[-1]["messages"]
    with_picture = [one["content"][0]["text"].splitlines()[0] for one in sent if "image_url" in str(one["content"])]
    assert with_picture == [f"picture {number}" for number in range(2, 10)]


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


async def test_sixty_four_calls_at_once_all_run(talk: Service, provider: FakeProvider) -> None:
    provider.will(calls(*[("list_dir", "{}")] * 64), says("Enough."))
    key = fresh_key()
    assert (await talk.ask(key, "go")).text == "Enough."
    assert [line["outcome"] for line in talk.lines(key) if line["role"] == "tool"] == ["ok"] * 64
    check_transcript(talk.lines(key))


async def test_cached_tokens_are_counted_in_the_transcript_and_the_status(
    talk: Service, provider: FakeProvider
) -> None:
    provider.will(says("Hello.", cached=6))
    key = fresh_key()
    await talk.ask(key, "hi")
    (usage,) = [line["usage"] for line in talk.lines(key) if line["role"] == "assistant"]
    assert usage == {"input_tokens": 11, "output_tokens": 7, "cached_tokens": 6}
    assert (await talk.until(key, lambda status: status.turns == 1)).cached_tokens == 6


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
    async with asyncio.timeout(30):
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


async def test_a_tool_that_is_off_is_not_offered_and_is_refused_when_it_is_called_anyway(
    make_service: Callable[..., Any], provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    service: Service = await make_service(
        model={"name": "openai-chat:fake", "base_url": provider.url + "/v1"}, tools={"off": ["shell"]}
    )
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

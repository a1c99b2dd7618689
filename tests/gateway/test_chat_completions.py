"""OpenAI's chat completions by OpenAI's own client: sessions, parts, refusals, calls that wait."""

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_session.client import Reply
from agent_session.domain.cards import code_of
from agent_session.domain.failures import FailureEnvelope
from agent_session.gateway.openai_shown import BETWEEN_STEPS
from agent_session.gateway.openai_turn import problem_of_reply
from tests.fakes.providers import FakeProvider, fails
from tests.gateway.openai_support import (
    chat,
    client,
    image,
    provider,
    scripted,
    streamed,
    streaming,
    text_of,
    transcripts,
    user,
)
from tests.gateway.support import TOKENS, Door, door
from tests.support import Service, fresh_key

__all__ = ["provider", "scripted"]  # fixtures

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


async def test_a_session_answers_remembers_and_says_what_it_cost(gateway: Door) -> None:
    key = fresh_key()
    assert "remember: blue" in await chat(gateway, key, "remember blue")
    made = await client(gateway).chat.completions.create(model="gpt-x", user=key, messages=[user("what did I say?")])
    lines = [line for line in gateway.service.lines(key) if line["role"] == "assistant"]
    assert made.choices[0].message.content == "You said: remember blue"
    assert (made.model, made.choices[0].finish_reason) == ("offline", "stop")
    assert made.usage is not None
    assert made.usage.prompt_tokens == lines[-1]["usage"]["input_tokens"]
    assert made.usage.completion_tokens == lines[-1]["usage"]["output_tokens"]


async def test_the_header_names_the_session_and_a_token_stays_in_its_own(service: Service, tmp_path: Path) -> None:
    path, name = tmp_path / "tokens", fresh_key()
    path.write_text(TOKENS)
    path.chmod(0o600)
    meant = [
        ("phone", f"team/{name}", f"team/{name}"),
        ("phone", name, f"api/phone/{name}"),
        ("guest", f"team/{name}", f"api/guest/team/{name}"),
    ]
    async with door(service, token_file=path) as opened:
        for token, named, key in meant:
            own = client(opened, token=f"{token}-token-0123456789")
            header = {"X-Session-Key": named}
            await own.chat.completions.create(model="m", user="other", messages=[user("hi")], extra_headers=header)
            assert service.said(key) == ["hi"]
        reader = client(opened, token="reader-token-0123456789")
        with pytest.raises(openai.PermissionDeniedError):
            await reader.chat.completions.create(model="m", messages=[user("hi")])


async def test_without_a_session_each_message_has_one_of_its_own_in_the_tokens_home(gateway: Door) -> None:
    async def ask() -> Any:
        return await client(gateway).chat.completions.create(model="m", messages=[user("what did I say?")])

    first, second = await asyncio.gather(ask(), ask())
    assert first.choices[0].message.content == "You have said nothing before this."
    assert second.choices[0].message.content == first.choices[0].message.content
    assert first.id != second.id, "who asks several times at once wants several answers"
    rows = [row.key async for row in transcripts(gateway)]
    assert len([key for key in rows if key.startswith("api/owner/run/")]) == 2


async def test_a_failed_turn_is_an_error_that_is_not_tried_again(scripted: Service, provider: FakeProvider) -> None:
    provider.will(fails(401))
    async with scripted.worker(), door(scripted) as opened:
        key, own = fresh_key(), client(opened, retries=2)
        with pytest.raises(openai.APIStatusError) as plain:
            await own.chat.completions.create(model="m", user=key, messages=[user("x")])
        with pytest.raises(openai.APIError, match="refused the API key"):
            await streamed(opened, fresh_key(), "x")
    assert plain.value.status_code == 502
    assert plain.value.code == "turn_failed"
    assert "refused the API key" in plain.value.message
    assert len(scripted.said(key)) == 1
    assert len(provider.requests) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cancelled_turn_is_an_error(gateway: Door, stream: bool) -> None:
    key = fresh_key()
    asked = asyncio.create_task(streamed(gateway, key, "sleep 60") if stream else chat(gateway, key, "sleep 60"))
    async with asyncio.timeout(20):
        while not gateway.service.lines(key):
            await asyncio.sleep(0.02)
    await gateway.service.client.cancel(key)
    with pytest.raises(openai.APIError) as error:
        await asked
    assert error.value.code == "turn_cancelled"


def test_a_full_queue_says_when_to_come_again() -> None:
    words = FailureEnvelope(kind="queue_full", error_id="e-12345678").apology
    full = problem_of_reply(Reply("failed", words, "t-1", error_id="e-12345678"))
    other = problem_of_reply(Reply("failed", "Sorry.", "t-1", error_id="e-12345678"))
    assert (full.status, full.headers) == (429, {"Retry-After": "5"})
    assert (other.status, other.headers) == (502, {"X-Should-Retry": "false"})


async def test_parts_are_joined_and_files_go_along(gateway: Door) -> None:
    key = fresh_key()
    text = "data:text/plain;base64," + base64.b64encode(b"notes of mine").decode()
    parts = [
        {"type": "text", "text": "look at"},
        {"type": "text", "text": "these"},
        image(f"data:image/png;base64,{PNG}"),
        {"type": "file", "file": {"filename": "notes.txt", "file_data": text}},
    ]
    await client(gateway).chat.completions.create(model="m", user=key, messages=[user(parts)])
    (line,) = (line for line in gateway.service.lines(key) if line["role"] == "user")
    assert line["content"].startswith("look at\nthese")
    assert [(one["name"], one["type"]) for one in line["attachments"]] == [
        ("image.png", "image/png"), ("notes.txt", "text/plain"),
    ]  # fmt: skip
    await chat(gateway, key, "read " + line["attachments"][1]["path"])
    assert any("notes of mine" in str(one.get("content")) for one in gateway.service.lines(key))


@pytest.mark.parametrize(("more", "param"), [
    ({"n": 2}, "n"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    ({"functions": [{"name": "f"}]}, "functions"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"stop": ["\n"]}, "stop"),
    ({"logprobs": True}, "logprobs"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "messages"),
    ({"messages": [{"role": "user", "content": "  "}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
    ({"messages": [user([image("https://x.example/a.png")])]}, "messages.0.content.0"),
    ({"messages": [user([image("data:image/png;base64,%%")])]}, "messages.0.content.0"),
    ({"messages": [user([{"type": "input_audio", "input_audio": {"data": ""}}])]}, "messages.0.content.0"),
    ({"messages": [user([{"type": "file", "file": {"file_id": "f-1"}}])]}, "messages.0.content.0"),
    ({"stream": "perhaps"}, "stream"),
    ({"user": "a\nb"}, "key"),
])  # fmt: skip
async def test_what_would_change_the_meaning_is_refused_by_name(gateway: Door, more: Any, param: str) -> None:
    body = {"model": "m", "user": fresh_key(), "messages": [user("hello")], **more}
    refused = await gateway.post("/v1/chat/completions", json=body)
    assert (refused.status, refused.json["error"]["param"]) == (400, param)
    assert not (gateway.service.settings.data_dir / "sessions").exists()


async def test_what_only_tunes_a_model_is_ignored(gateway: Door) -> None:
    tuned: Any = {
        "temperature": 0.1, "top_p": 0.9, "seed": 1, "max_tokens": 5, "presence_penalty": 0.2, "n": 1, "tools": [],
        "tool_choice": "auto", "response_format": {"type": "text"}, "logit_bias": {}, "metadata": {"a": "b"},
        "logprobs": False, "store": False, "stop": None, "reasoning_effort": "low", "made_up": True,
    }  # fmt: skip
    body = {"model": "m", "messages": [{"role": "system", "content": "be rude"}, user("hello")], **tuned}
    answer = await gateway.post("/v1/chat/completions", json=body)
    assert answer.status == 200
    assert "hello" in answer.json["choices"][0]["message"]["content"]


async def test_models_are_listed(gateway: Door) -> None:
    assert [one.id async for one in client(gateway).models.list()] == ["agent-session", "offline"]


@pytest.fixture
async def asking(make_service: Callable[..., Any]) -> Service:
    """A service whose shell asks before each command; no worker yet."""
    return await make_service(tools={"ask": ["shell"]})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_waits_is_told_and_decided_in_the_same_conversation(asking: Service, stream: bool) -> None:
    """Nobody waits in silence: the answer says what waits, and `/allow` answers with the rest of the turn."""
    async with streaming(asking), door(asking) as opened:
        key = fresh_key()

        async def ask(text: str) -> str:
            return text_of(await streamed(opened, key, text)) if stream else await chat(opened, key, text)

        waits = await ask("run echo allowed")
        (call,) = asking.client.waiting_calls(key, await asking.client.status(key))
        done = await ask(f"/allow {code_of(call)}")
        later = await ask("run echo allowed")
    assert "command: echo allowed" in waits
    assert f"/allow {code_of(call)}" in waits
    assert key in waits
    assert done == f"Allowed once.{BETWEEN_STEPS}allowed"
    assert later == "allowed", "the same words again get the answer that was not given"
    assert len([one for one in asking.said(key) if one == "run echo allowed"]) == 1


async def test_a_wrong_decision_says_so_and_does_not_wait(asking: Service) -> None:
    async with asking.worker(), door(asking) as opened:
        key = fresh_key()
        await asking.client.send(key, "run echo never", id="a")
        await asking.until(key, lambda status: status.state == "waiting approval")
        said = await chat(opened, key, "/allow 000000")
    assert said.startswith("Which one?")


PARTS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": st.text(max_size=9)}),
    st.fixed_dictionaries(
        {"type": st.just("image_url"), "image_url": st.sampled_from([{"url": "data:;base64,"}, "x", 1])}
    ),
    st.fixed_dictionaries(
        {"type": st.just("file"), "file": st.sampled_from([{"file_data": "data:a/b;base64,YQ=="}, 1])}
    ),
    st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5), max_size=2),
)
CONTENTS = st.one_of(st.text(max_size=20), st.lists(PARTS, max_size=3), st.none(), st.integers())


async def test_no_message_breaks_the_door(gateway: Door) -> None:
    """Whatever it holds, it is answered or refused as the client's fault."""
    loop = asyncio.get_running_loop()

    @given(st.lists(CONTENTS, min_size=1, max_size=2))
    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def holds(contents: list[Any]) -> None:
        body = {"model": "m", "messages": [user(content) for content in contents]}
        asked = asyncio.run_coroutine_threadsafe(gateway.post("/v1/chat/completions", json=body), loop)
        assert asked.result(30).status in (200, 400)

    await asyncio.to_thread(holds)

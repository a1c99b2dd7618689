"""What goes over the wire to a provider and what is read from its answer: usage, cost, caches, pictures,
limits. Real HTTP servers that speak the providers' protocols."""

import asyncio
import base64
import importlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic_ai.messages import ModelResponse, TextPart
from pydantic_ai.usage import RequestUsage

from agent_session.models.base import Image, Line, ModelFault, Prompt, ToolSpec, image_type
from agent_session.models.limiter import LONGEST_WAIT_S, Entry, Limiter
from agent_session.models.prices import cost_microusd, is_own_server
from agent_session.models.providers import ProviderBackedModel
from agent_session.settings import load_settings
from tests.fakes.providers import FakeProvider, anthropic, fails, fake_provider, says

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII=")
TOOL = ToolSpec("look", "Look.", {"type": "object", "properties": {}})
OWN = "https://api.anthropic.com"


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeProvider]:
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "x")
    async with fake_provider() as made:
        yield made


def model(name: str, base_url: str = "", limiter: Limiter | None = None, **more: Any) -> ProviderBackedModel:
    settings = load_settings({"model": {"name": name, "base_url": base_url, **more}})
    return ProviderBackedModel(name, settings, limiter)


def prompt(*lines: Line, **more: Any) -> Prompt:
    said = list(lines) or [{"role": "user", "turn": "t", "content": "hi"}]
    return Prompt("Be brief.", said, [TOOL], "main", "t", 1, 1, **more)


def quiet(text: str) -> None:
    return


async def test_anthropics_prompt_is_marked_for_its_cache_and_what_came_from_it_is_counted(
    provider: FakeProvider,
) -> None:
    text = {"type": "text", "text": "Yes."}
    provider.will(anthropic(text, cache_read_input_tokens=900, cache_creation_input_tokens=50))
    answer = await model("anthropic:claude-sonnet-4-5", provider.url).answer(prompt(), quiet)
    (sent,) = provider.requests
    mark = {"type": "ephemeral", "ttl": "5m"}
    assert sent["system"][-1]["cache_control"] == mark
    assert sent["tools"][-1]["cache_control"] == mark
    assert sent["cache_control"] == mark  # the talk so far: the provider moves this one along by itself
    assert answer.cached_tokens == 900
    assert answer.input_tokens == 5 + 900 + 50


async def test_nothing_is_marked_when_the_setting_says_no(provider: FakeProvider) -> None:
    provider.will(anthropic({"type": "text", "text": "Yes."}))
    await model("anthropic:claude-sonnet-4-5", provider.url, cache=False).answer(prompt(), quiet)
    assert "cache_control" not in str(provider.requests)


async def test_openais_cached_tokens_are_counted(provider: FakeProvider) -> None:
    provider.will(says("Yes.", cached=6))
    answer = await model("openai-chat:gpt-5-mini", provider.url + "/v1").answer(prompt(), quiet)
    assert (answer.input_tokens, answer.cached_tokens, answer.output_tokens) == (11, 6, 7)


async def test_a_session_names_its_cache_to_openai_and_never_to_a_compatible_server(provider: FakeProvider) -> None:
    own = model("openai:gpt-5-mini")._model_settings("main")
    assert own["openai_prompt_cache_key"] == model("openai-chat:gpt-5-mini")._model_settings("main").get(
        "openai_prompt_cache_key"
    )
    assert own["openai_prompt_cache_key"] != model("openai:gpt-5-mini")._model_settings("other").get(
        "openai_prompt_cache_key"
    )
    assert "main" not in own["openai_prompt_cache_key"]
    provider.will(says("Yes."))
    await model("openai-chat:gpt-5-mini", provider.url + "/v1").answer(prompt(), quiet)
    assert "prompt_cache_key" not in provider.requests[0]


def response(name: str = "claude-sonnet-4-5", **usage: int) -> ModelResponse:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    return ModelResponse(parts=[TextPart("x")], usage=RequestUsage(**usage), model_name=name, timestamp=when)


def test_an_answers_cost_is_its_price_in_millionths_of_a_dollar() -> None:
    """3 $ a million tokens in, 0.30 $ from the cache, 15 $ out: this model's price list for years."""
    whole = response(input_tokens=1_000, output_tokens=100)
    assert cost_microusd(whole, "claude-sonnet-4-5", OWN) == 3_000 + 1_500
    cached = response(input_tokens=1_000, cache_read_tokens=800, output_tokens=100)
    assert cost_microusd(cached, "claude-sonnet-4-5", OWN) == 600 + 240 + 1_500
    assert cost_microusd(whole, "claude-sonnet-4-5", "", "anthropic") == 3_000 + 1_500, (
        "a library that hides its address"
    )


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("claude-sonnet-4-5", "http://127.0.0.1:1/v1"),  # a server of one's own: nobody knows its prices
        ("claude-sonnet-4-5", ""),
        ("no-such-model", OWN),
        ("", OWN),
    ],
)
def test_what_has_no_known_price_costs_nothing_and_raises_nothing(name: str, address: str) -> None:
    assert cost_microusd(response(name, input_tokens=10, output_tokens=1), name, address) == 0


def test_usage_that_no_price_fits_costs_nothing() -> None:
    assert cost_microusd(response(input_tokens=1, cache_read_tokens=50), "claude-sonnet-4-5", OWN) == 0


def test_a_providers_own_server_is_known_by_its_address() -> None:
    assert is_own_server("https://api.openai.com/v1/")
    assert not is_own_server("http://localhost:8000/v1")
    assert not is_own_server("")


async def test_after_warming_a_cost_adds_no_time_to_speak_of(provider: FakeProvider) -> None:
    warmed = model("anthropic:claude-sonnet-4-5")
    await warmed.warm()
    began = time.thread_time()
    warmed._cost_of(response(input_tokens=10))
    assert time.thread_time() - began < 0.05


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBP", "image/webp"),
        (b"<svg/>", ""),
        (b"", ""),
    ],
)
def test_a_picture_is_known_by_its_bytes(data: bytes, kind: str) -> None:
    assert image_type(data) == kind


def with_a_picture(ref: str = "abc") -> tuple[Line, dict[str, Image]]:
    line = {"role": "user", "turn": "t", "content": "What is this?", "attachments": [{"ref": ref}]}
    return line, {ref: Image("image/png", PNG)}


async def test_a_picture_reaches_openai_after_the_words_it_came_with(provider: FakeProvider) -> None:
    provider.will(says("A dot."))
    line, images = with_a_picture()
    await model("openai-chat:gpt-5-mini", provider.url + "/v1").answer(prompt(line, images=images), quiet)
    words, picture = provider.requests[0]["messages"][-1]["content"]
    assert words == {"type": "text", "text": "What is this?"}
    assert picture["image_url"]["url"] == f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


async def test_a_picture_reaches_anthropic_after_the_words_it_came_with(provider: FakeProvider) -> None:
    provider.will(anthropic({"type": "text", "text": "A dot."}))
    line, images = with_a_picture()
    await model("anthropic:claude-sonnet-4-5", provider.url).answer(prompt(line, images=images), quiet)
    words, picture = provider.requests[0]["messages"][-1]["content"][:2]
    assert words["text"] == "What is this?"
    assert picture["source"]["media_type"] == "image/png"
    assert picture["source"]["data"] == base64.b64encode(PNG).decode()


async def test_a_picture_that_the_prompt_does_not_hold_is_words_only(provider: FakeProvider) -> None:
    provider.will(says("I see none."))
    line, _ = with_a_picture()
    await model("openai-chat:gpt-5-mini", provider.url + "/v1").answer(prompt(line), quiet)
    assert provider.requests[0]["messages"][-1] == {"role": "user", "content": "What is this?"}


def a_talk() -> tuple[list[Line], dict[str, Image]]:
    pictured, images = with_a_picture()
    call = {"id": "t-1-0", "name": "look", "args": "{}"}
    return [
        pictured,
        {"role": "assistant", "turn": "t", "step": 1, "content": "Let me see.", "tool_calls": [call]},
        {"role": "tool", "turn": "t", "call": "t-1-0", "outcome": "ok", "content": "a dot"},
        {"role": "assistant", "turn": "t", "step": 2, "content": "A dot."},
        {"role": "user", "turn": "u", "content": "And now?"},
    ], images


@pytest.mark.parametrize("name", ["openai-chat:gpt-5-mini", "openai-responses:gpt-5-mini", "ollama:llama"])
async def test_openais_client_sends_the_same_without_its_walk_through_all_messages(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    provider.will(fails(400))
    talk, images = a_talk()

    async def ask() -> Any:
        with pytest.raises(ModelFault):
            await model(name, provider.url + "/v1").answer(prompt(*talk, images=images), quiet)
        return provider.requests.pop()

    sent = await ask()
    monkeypatch.setattr("agent_session.models.build.send_as_it_is", lambda model: None)
    assert sent == await ask()
    assert len(sent.get("messages") or sent["input"]) >= 5
    assert sent["tools"]


@pytest.mark.parametrize(
    ("name", "where"),
    [("openai-chat:m", "chat.completions.completions"), ("openai-responses:m", "responses.responses")],
)
async def test_openais_client_walks_through_no_message(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    """A talk of 400 messages cost 56 ms of the worker's event loop for each request."""
    walked: list[Any] = []
    at = f"openai.resources.{where}.async_maybe_transform"
    walk = importlib.import_module(at.rpartition(".")[0]).async_maybe_transform

    async def noting(body: Any, kind: Any) -> Any:
        walked.append(body)
        return await walk(body, kind)

    monkeypatch.setattr(at, noting)
    provider.will(fails(400))
    with pytest.raises(ModelFault):
        await model(name, provider.url + "/v1").answer(prompt(*a_talk()[0]), quiet)
    assert [[body.get("messages"), body.get("input"), body["tools"]] for body in walked] in (
        [[(), None, ()]],
        [[None, (), ()]],
    )


class Noting(Limiter):
    """Knows when each request was let go: the server sees it some time later, on a busy machine much later."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.let_go: list[float] = []

    async def admit(self, tokens: int, on_wait: Callable[[str], None], longest_s: float = LONGEST_WAIT_S) -> Entry:
        entry = await super().admit(tokens, on_wait, longest_s)
        self.let_go.append(entry.at)
        return entry


async def test_thirty_requests_at_once_never_exceed_the_limit(provider: FakeProvider) -> None:
    limiter = Noting(requests=10, window_s=1.5)
    limited = model("openai-chat:m", provider.url + "/v1", limiter)
    provider.will(says("Yes."))
    await asyncio.gather(*(limited.answer(prompt(), quiet) for _ in range(30)))
    assert len(provider.requests) == len(limiter.let_go) == 30
    in_order = sorted(limiter.let_go)
    assert all(later - earlier > 1.499 for earlier, later in zip(in_order, in_order[10:], strict=False))


async def test_tokens_are_estimated_before_and_settled_after(provider: FakeProvider) -> None:
    provider.will(says("Yes."))
    limiter = Limiter(tokens=2_000, window_s=60)
    limited = model("openai-chat:m", provider.url + "/v1", limiter, tokens_per_minute=2_000)
    assert limited._estimate(prompt()) > 1_000
    for _ in range(20):  # at the estimate only one would fit
        await limited.answer(prompt(), quiet)
    assert sum(entry.tokens for entry in limiter._started) == 20 * 18


async def test_one_session_told_to_come_later_pauses_all_of_them(provider: FakeProvider) -> None:
    provider.will(fails(429, **{"Retry-After": "2"}), says("Yes."))
    limited = model("openai-chat:m", provider.url + "/v1", Limiter())
    began = time.monotonic()  # the pause begins between here and the answer
    with pytest.raises(ModelFault) as raised:
        await limited.answer(prompt(), quiet)
    assert (raised.value.kind, raised.value.retry_after_s) == ("rate_limit", 2)
    told: list[str] = []
    await asyncio.gather(*(limited.answer(prompt(on_wait=told.append), quiet) for _ in range(5)))
    assert time.monotonic() - began >= 2
    assert told[0] in [f"waiting for the provider's limit, {seconds} s" for seconds in (1, 2)]
    assert len(provider.requests) == 6


async def test_a_wait_that_is_too_long_to_be_held_is_a_fault_that_is_retried(provider: FakeProvider) -> None:
    provider.will(fails(429, **{"Retry-After": "200"}))
    limited = model("openai-chat:m", provider.url + "/v1", Limiter())
    with pytest.raises(ModelFault):
        await limited.answer(prompt(), quiet)
    with pytest.raises(ModelFault) as raised:
        await limited.answer(prompt(), quiet)
    assert (raised.value.kind, raised.value.transient) == ("rate_limit", True)
    assert 190 < raised.value.retry_after_s <= 200
    assert len(provider.requests) == 1


async def test_a_wait_leaves_half_of_the_time_out_to_the_answer(provider: FakeProvider) -> None:
    limiter = Limiter()
    limiter.pause(20)
    with pytest.raises(ModelFault, match="limits"):
        await model("openai-chat:m", provider.url + "/v1", limiter, timeout_s=30).answer(prompt(), quiet)

"""Commands that the session answers itself: at once, without a model call, also while a turn runs."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.providers import fake_provider, says
from tests.support import Service, fresh_key


@pytest.fixture
async def busy(service: Service) -> tuple[Service, str]:
    """A session in the middle of a turn."""
    key = fresh_key()
    await service.client.send(key, "sleep 30", id="long")
    await service.until(key, lambda s: s.state == "running")
    return service, key


async def quickly(service: Service, key: str, words: str) -> str:
    return (await asyncio.wait_for(service.ask(key, words), 5)).text


async def test_status_is_answered_while_a_turn_runs(busy: tuple[Service, str]) -> None:
    service, key = busy
    shown = await quickly(service, key, "/status")
    assert shown.startswith(f"{key} · running")
    assert "offline" in shown
    await service.client.cancel(key)


async def test_queue_shows_what_waits(busy: tuple[Service, str]) -> None:
    service, key = busy
    assert await quickly(service, key, "/queue") == "Nothing waits."
    await service.client.send(key, "remember the milk")
    assert await quickly(service, key, "/queue") == "1. remember the milk"
    await service.client.cancel(key)


async def test_stop_ends_the_running_turn(busy: tuple[Service, str]) -> None:
    service, key = busy
    assert "Stopping" in await quickly(service, key, "/stop")
    assert (await service.client.await_reply(key, "long", timeout_s=10)).outcome == "cancelled"
    assert await quickly(service, key, "/stop") == "No turn runs."


async def test_help_lists_them_all(service: Service) -> None:
    shown = await quickly(service, fresh_key(), "/help")
    for word in ("/status", "/stop", "/new", "/model", "/queue", "/allow", "/deny", "/help"):
        assert word in shown


async def test_new_hides_what_was_said_before_and_keeps_it_in_the_transcript(service: Service) -> None:
    key = fresh_key()
    await service.ask(key, "remember blue")
    assert "nothing from before" in await quickly(service, key, "/new")
    assert (await service.ask(key, "what did I say?")).text == "You have said nothing before this."
    assert "You said" in (await service.ask(key, "what did I say?")).text
    assert "remember blue" in service.said(key)


async def test_a_model_is_chosen_for_the_session_and_taken_back(
    make_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key")
    async with fake_provider() as provider:
        provider.will(says("noted"))
        base_url = provider.url + "/v1"
        service: Service = await make_service(model={"name": "openai-chat:fake", "base_url": base_url})
        async with service.worker():
            key = fresh_key()
            assert "openai-chat:fake" in await quickly(service, key, "/model")
            assert "cannot be used" in await quickly(service, key, "/model nonsense:x")
            for name in ("openai-chat:other", "offline", "default"):
                await quickly(service, key, f"/model {name}")
                await service.ask(key, "remember this")
    answered_by = [line["model"] for line in service.lines(key) if line["role"] == "assistant"]
    assert answered_by == ["openai-chat:other", "offline", "openai-chat:fake"]
    assert [request["model"] for request in provider.requests] == ["other", "fake"]


async def test_an_unknown_word_after_a_slash_is_a_message_like_any_other(service: Service) -> None:
    assert "/etc/passwd looks odd" in (await service.ask(fresh_key(), "/etc/passwd looks odd")).text


async def test_an_unsigned_command_does_nothing(busy: tuple[Service, str]) -> None:
    service, key = busy
    await service.signal(key, {"id": "x", "channel": "test", "text": "/stop", "principal": service.client.principal})
    await quickly(service, key, "/queue")
    assert (await service.client.status(key)).state == "running"
    await service.client.cancel(key)


async def test_a_command_is_answered_once_also_through_a_roll_over(busy: tuple[Service, str]) -> None:
    service, key = busy
    for number in range(5):
        await service.client.send(key, "/queue", id=f"q{number}")
    await service.client.roll_over(key)
    replies = [await service.client.await_reply(key, f"q{number}", timeout_s=10) for number in range(5)]
    assert {reply.text for reply in replies} == {"Nothing waits."}
    await service.client.cancel(key)

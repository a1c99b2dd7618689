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
    return (await asyncio.wait_for(service.ask(key, words), 15)).text


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
    assert (await service.client.await_reply(key, "long", timeout_s=20)).outcome == "cancelled"
    await service.until(key, lambda status: status.state == "idle")
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


async def test_new_and_model_said_in_mid_turn_are_for_the_next_turn(service: Service) -> None:
    key = fresh_key()
    await service.ask(key, "remember blue")
    await service.client.send(key, "sleep 1", id="s")
    await service.until(key, lambda s: s.state == "running")
    await quickly(service, key, "/new")
    await quickly(service, key, "/model offline")
    await service.client.await_reply(key, "s", timeout_s=20)
    assert (await service.ask(key, "what did I say?")).text == "You have said nothing before this."
    assert [line["event"] for line in service.lines(key) if line.get("event") in ("new", "model")] == ["new", "model"]


async def test_new_survives_a_message_that_opens_no_turn_and_a_turn_that_is_stopped_at_once(service: Service) -> None:
    key = fresh_key()
    await service.ask(key, "remember blue")
    await quickly(service, key, "/new")
    await service.signal(key, {"id": "x", "channel": "test", "text": "hi", "principal": "local:mallory"})
    await service.until(key, lambda s: s.last_error == "not_signed")
    await service.client.send(key, "sleep 30", id="s")
    await service.until(key, lambda s: s.state == "running")
    await service.client.send(key, "what did I say?", id="w", mode="interrupt")
    assert (await service.client.await_reply(key, "w", timeout_s=20)).text == "You said: sleep 30"


async def test_words_whose_text_a_restore_lost_do_not_block_their_place(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = fresh_key()
    with monkeypatch.context() as lost:
        lost.setattr("agent_session.activities.answer_aside.spool.put", lambda volume, key, data: "0" * 64)
        await service.client.send(key, "/help", reply_address="file:place")
        await service.until(key, lambda s: s.deliveries)
    await service.client.send(key, "remember x", reply_address="file:place")
    place = service.settings.data_dir / "channels" / "file" / "place.jsonl"
    async with asyncio.timeout(15):
        while not place.exists() or "I will remember: x" not in place.read_text():
            await asyncio.sleep(0.05)
    assert "lost" in place.read_text().splitlines()[0]

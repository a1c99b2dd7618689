"""send_message: a durable delivery, posted once, to places that a person allowed."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from agent_session.tools import ToolError
from tests.support import Service, fresh_key


async def test_a_new_place_asks_and_the_message_is_posted_once(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    async with service.worker("file"):
        key = fresh_key()
        await service.client.send(
            key, 'call send_message {"address": "file:notes", "text": "the build is green"}', id="a"
        )
        status = await service.until(key, lambda s: s.state == "waiting approval")
        (call,) = service.client.waiting_calls(key, status)
        assert "new place" in call["why"]
        assert call["pattern"] == "file:notes"
        await service.client.resolve(key, call["call"], call["digest"], "allow", pattern="file:notes")
        assert "Handed to file" in (await service.client.await_reply(key, "a", timeout_s=20)).text
        again = await service.ask(key, 'call send_message {"address": "file:notes", "text": "still green"}')
        assert again.ok, "the place is known now"
        notes = service.settings.data_dir / "channels" / "file" / "notes.jsonl"
        async with asyncio.timeout(10):
            while not notes.exists() or len(notes.read_text().splitlines()) < 2:
                await asyncio.sleep(0.05)
    assert [json.loads(line)["text"] for line in notes.read_text().splitlines()] == [
        "the build is green",
        "still green",
    ]
    for run in await service.runs(key):
        assert not any("the build is green" in str(event) for event in (await service.events(key, run))[12:])


async def test_the_place_that_the_turn_came_from_does_not_ask(service: Service) -> None:
    call = 'call send_message {"address": "file:mine", "text": "hi"}'
    assert (await service.ask(fresh_key(), call, reply_address="file:mine")).ok


async def test_a_channel_that_nobody_delivers_for_is_said(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    async with service.worker() as services:
        services.channels = ("file",)
        call = 'call send_message {"address": "nosuch:x", "text": "hi"}'
        key = fresh_key()
        await service.client.send(key, call, id="a")
        status = await service.until(key, lambda s: s.state == "waiting approval")
        (asked,) = service.client.waiting_calls(key, status)
        await service.client.resolve(key, asked["call"], asked["digest"], "allow")
        assert "no channel 'nosuch'" in (await service.client.await_reply(key, "a", timeout_s=20)).text


@pytest.mark.parametrize("address", ["notes", "file:", ":x", "File:x", "file:a b"])
async def test_what_is_no_address_is_said(call: Any, address: str) -> None:
    with pytest.raises(ToolError, match="no address"):
        await call("send_message", address=address, text="x")


async def test_an_empty_or_huge_text_is_refused(call: Any) -> None:
    for text in ("", " ", "x" * 70_000):
        with pytest.raises(ToolError, match="text"):
            await call("send_message", address="file:x", text=text)

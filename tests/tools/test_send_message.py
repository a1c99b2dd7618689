"""send_message: a durable delivery, posted once, to places that a person allowed."""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent_session.scheduled.targets import check_address
from agent_session.tools import ToolError
from tests.support import Service, decoded, fresh_key


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


@pytest.mark.parametrize(("address", "words"), [
    ("nosuch:x", "no channel 'nosuch'"),
    ("cli:x", "channel 'cli' delivers nothing"),
    ("file:a/b", "'a/b' is no file name"),
    ("slack:nonsense", "'nonsense' is no place in Slack"),
])  # fmt: skip
async def test_an_address_that_can_never_be_posted_to_is_said_and_nothing_is_sent(
    make_service: Callable[..., Any], address: str, words: str
) -> None:
    service: Service = await make_service()
    async with service.worker() as services:
        services.check_address = partial(check_address, settings=service.settings)
        key = fresh_key()
        await service.client.send(key, f'call send_message {{"address": "{address}", "text": "hi"}}', id="a")
        status = await service.until(key, lambda s: s.state == "waiting approval")
        (asked,) = service.client.waiting_calls(key, status)
        await service.client.resolve(key, asked["call"], asked["digest"], "allow")
        told = (await service.client.await_reply(key, "a", timeout_s=20)).text
        assert "nothing was sent" in told
        assert words in told
        assert (await service.client.status(key)).deliveries == 0


@pytest.mark.parametrize("address", ["notes", "file:", ":x", "File:x", "file:a b"])
async def test_what_is_no_address_is_said(call: Any, address: str) -> None:
    with pytest.raises(ToolError, match="no address"):
        await call("send_message", address=address, text="x")


async def test_the_place_of_the_turn_needs_no_address(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    async with service.worker("file"):
        reply = await service.ask(fresh_key(), 'call send_message {"text": "hi"}', reply_address="file:here")
        assert reply.ok
        here = service.settings.data_dir / "channels" / "file" / "here.jsonl"
        async with asyncio.timeout(10):
            while not here.exists() or '"hi"' not in here.read_text():
                await asyncio.sleep(0.05)


async def test_a_turn_from_no_place_is_told_to_name_one(service: Service) -> None:
    assert "came from no place" in (await service.ask(fresh_key(), 'call send_message {"text": "hi"}')).text


async def test_a_place_that_takes_no_files_is_told_their_names(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    async with service.worker("file"):
        key = fresh_key()
        await service.ask(key, 'call write_file {"path": "sub/a b.txt", "text": "x"}')
        call = 'call send_message {"text": "look", "files": ["sub/a b.txt"]}'
        await service.ask(key, call, reply_address="file:named")
        named = service.settings.data_dir / "channels" / "file" / "named.jsonl"
        async with asyncio.timeout(10):
            while not named.exists() or "look" not in named.read_text():
                await asyncio.sleep(0.05)
    assert "a b.txt (1 bytes)" in named.read_text()
    for run in await service.runs(key):
        events = [decoded(event) for event in await service.events(key, run)]
        assert any("files_ref" in event for event in events)
        assert not any("a b.txt" in event for event in events if "files_ref" in event), "references only"


@pytest.mark.parametrize(
    ("files", "wrong"),
    [
        (("nosuch.txt",), "does not exist"),
        (("../secret",), "leads out"),
        (("/etc/passwd",), "leads out"),
        (("empty.txt",), "empty"),
        (("big.bin",), "too large"),
        (("link.txt",), "link"),
        (("a.txt",) * 11, "at most 10"),
    ],
)
async def test_a_file_that_cannot_be_sent_is_said(
    call: Any, workspace: Path, files: tuple[str, ...], wrong: str
) -> None:
    (workspace / "empty.txt").touch()
    (workspace / "link.txt").symlink_to("/etc/passwd")
    with (workspace / "big.bin").open("wb") as big:
        big.truncate(17 * 1024 * 1024)
    with pytest.raises(ToolError, match=wrong):
        await call("send_message", text="x", files=files)


async def test_an_empty_or_huge_text_is_refused(call: Any) -> None:
    for text in ("", " ", "x" * 70_000):
        with pytest.raises(ToolError, match="text"):
            await call("send_message", address="file:x", text=text)

"""Attachments in, artifacts out: limits, and nothing that a browser would show or run."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import pytest

from agent_session.domain.messages import attachment_from
from agent_session.gateway import body, files
from tests.gateway.support import Door, door
from tests.support import fresh_key


@pytest.fixture
async def quiet(make_service: Callable[..., Any]) -> AsyncIterator[Door]:
    """A gateway without a worker."""
    async with door(await make_service()) as opened:
        yield opened


async def attach(opened: Door, key: str, data: Any, name: str = "notes.txt", **how: Any) -> Any:
    return await opened.post(f"/v1/sessions/{key}/attachments?name={quote(name)}", data=data, **how)


async def test_a_file_that_was_stored_goes_with_a_message(gateway: Door) -> None:
    key = fresh_key()
    stored = await attach(gateway, key, b"buy tea")
    sent = {"text": "read attachments/notes.txt", "attachments": [stored.json["attachment"]]}
    said = await gateway.post(f"/v1/sessions/{key}/messages?wait=30", json=sent)
    (found,) = gateway.service.lines(key)[0]["attachments"]
    assert (stored.status, said.status) == (200, 200)
    assert (found["name"], found["type"], found["size"]) == ("notes.txt", "text/plain", "7")
    assert (gateway.service.volume.path_of(key) / "workspace" / found["path"]).read_bytes() == b"buy tea"


async def test_a_file_may_go_without_words(gateway: Door) -> None:
    key = fresh_key()
    stored = (await attach(gateway, key, b"buy tea")).json["attachment"]
    said = await gateway.post(f"/v1/sessions/{key}/messages?wait=30", json={"text": "", "attachments": [stored]})
    assert said.status == 200


@pytest.mark.parametrize(
    ("name", "sent", "kind"),
    [
        ("a.png", "application/octet-stream", "image/png"),
        ("a.png", "application/x-www-form-urlencoded", "image/png"),
        ("a", "image/png", "image/png"),
        ("a", "no type", "application/octet-stream"),
        ("naïve file.txt", "text/plain; charset=utf-8", "text/plain"),
    ],
)
async def test_a_file_has_the_type_that_was_said_or_that_its_name_says(
    quiet: Door, name: str, sent: str, kind: str
) -> None:
    stored = await attach(quiet, "s", b"x", name, headers={"Content-Type": sent})
    found = attachment_from(stored.json["attachment"])
    assert (found.name, found.kind, found.size) == (name, kind, 1)


@pytest.mark.parametrize("name", ["", "a/b", "..\\a", "a\nb", "x" * 201])
async def test_a_name_that_is_no_files_name_is_refused(quiet: Door, name: str) -> None:
    refused = await attach(quiet, "s", b"x", name)
    assert (refused.status, refused.json["error"]["param"]) == (400, "name")


async def test_a_file_belongs_to_its_session(quiet: Door) -> None:
    stored = (await attach(quiet, "mine", b"x")).json["attachment"]
    refused = await quiet.post("/v1/sessions/other/messages", json={"text": "x", "attachments": [stored]})
    lied = stored.replace(" 1 ", " 2 ")
    larger = await quiet.post("/v1/sessions/mine/messages", json={"text": "x", "attachments": [lied]})
    assert [(one.status, one.code) for one in (refused, larger)] == [(400, "no_such_attachment")] * 2


async def test_a_file_that_is_too_large_is_refused(make_service: Callable[..., Any]) -> None:
    async with door(await make_service(), max_body_bytes=100_000) as opened:
        largest = await attach(opened, "s", b"x" * 100_000)
        larger = await attach(opened, "s", b"x" * 100_001)
    assert (largest.status, larger.status, larger.code) == (200, 413, "too_large")


async def test_a_message_may_not_be_larger_than_the_spool_takes(quiet: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_session.gateway.sessions.SPOOL_BYTES", 1_000)
    monkeypatch.setattr(files, "SPOOL_BYTES", 1_000)
    text = await quiet.say("s", "ü" * 501, wait=0)
    file = await attach(quiet, "s", b"x" * 1_001)
    assert [(one.status, one.code) for one in (text, file)] == [(413, "too_large")] * 2


async def test_more_uploads_than_memory_holds_wait_their_turn(quiet: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "UPLOADS", 1)
    monkeypatch.setattr(body, "BODY_S", 60.0)
    begun, finish = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x"
        begun.set()
        await finish.wait()

    first = asyncio.create_task(attach(quiet, "s", pieces()))
    await begun.wait()
    async with asyncio.timeout(10):
        while (second := await attach(quiet, "s", b"x")).status == 200:
            pass  # the first one's head is on its way
    finish.set()
    assert (second.code, second.headers["Retry-After"]) == ("too_many_uploads", "2")
    assert (await first).status == 200
    assert (await attach(quiet, "s", b"x")).status == 200


async def test_a_tools_whole_result_is_a_download_that_no_browser_shows(gateway: Door) -> None:
    key = fresh_key()
    await gateway.say(key, "run seq 1 20000; echo '<script>'")
    line = next(line for line in gateway.service.lines(key) if line["role"] == "tool")
    found = await gateway.get(f"/v1/sessions/{key}/artifacts/{line['call']}")
    assert found.status == 200
    assert found.raw.decode().startswith("1\n2\n")
    assert found.raw.decode().rstrip().endswith("<script>")
    assert len(found.raw) == line["size"]
    assert found.headers["Content-Type"] == "application/octet-stream"
    assert found.headers["Content-Disposition"] == f'attachment; filename="{line["call"]}.txt"'
    assert found.headers["Content-Security-Policy"].startswith("sandbox;")
    assert found.headers["X-Content-Type-Options"] == "nosniff"


async def test_what_is_no_artifact_is_not_found(quiet: Door) -> None:
    folder = quiet.service.volume.path_of("s") / "artifacts"
    with quiet.service.volume.session_folder("s", "artifacts", create=True):
        os.symlink("/etc/passwd", folder / "t-0123456789abcdef-1-0")
    for call in ("t-0123456789abcdef-1-0", "t-0123456789abcdef-1-1", "../mac.key", "history.jsonl", "x"):
        found = await quiet.get(f"/v1/sessions/s/artifacts/{quote(call, safe='')}")
        assert (found.status, found.code) == (404, "no_such_artifact"), call

"""Sessions over HTTP: say, wait, look, list, page, cancel, close; what a client reads when it fails."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_session.client import SessionClient
from agent_session.client_types import SessionBusy
from agent_session.connection import connect
from agent_session.domain.status import Status
from agent_session.gateway import body, history
from agent_session.gateway.app import application
from agent_session.gateway.history import page_back, page_on
from agent_session.gateway.runner import HEAD_BYTES, runner_of
from agent_session.ops.embedded import EmbeddedTemporal
from agent_session.transcript.log import TranscriptLog
from agent_session.transcript.volume import MARKER, Volume
from tests.gateway.sse import write_lines
from tests.gateway.support import TOKENS, Door, door
from tests.support import Service, fresh_key, settings_for


@pytest.fixture
async def quiet(make_service: Callable[..., Any]) -> AsyncIterator[Door]:
    """A gateway whose service has no worker."""
    async with door(await make_service()) as opened:
        yield opened


async def test_a_message_is_answered_while_one_waits(gateway: Door) -> None:
    key = fresh_key()
    said = await gateway.say(key, "remember tea")
    assert said.status == 200
    assert said.json == {
        "session": key, "id": said.json["id"], "status": "answered", "text": "I will remember: tea",
        "turn": gateway.service.lines(key)[0]["turn"], "n": 1, "error_id": "",
    }  # fmt: skip


async def test_a_message_is_accepted_at_once_and_its_reply_can_be_asked_for(gateway: Door) -> None:
    key = fresh_key()
    headers = {"Idempotency-Key": "m1"}
    accepted = await gateway.say(key, "remember tea", wait=0, headers=headers)
    answered = await gateway.say(key, "remember tea", headers=headers)
    again = await gateway.say(key, "remember tea", headers=headers)
    assert (accepted.status, accepted.json["status"], accepted.json["id"]) == (202, "accepted", "m1")
    assert (answered.status, answered.json["text"]) == (200, "I will remember: tea")
    assert again.json == answered.json
    assert gateway.service.said(key) == ["remember tea"]


async def test_a_wait_that_ends_before_the_reply_is_a_receipt(gateway: Door) -> None:
    key = fresh_key()
    said = await gateway.post(f"/v1/sessions/{key}/messages?wait=0.2", json={"text": "sleep 30"})
    assert (said.status, said.json["status"]) == (202, "accepted")
    assert (await gateway.post(f"/v1/sessions/{key}/cancel", json={})).json["turn"]


async def test_who_waits_is_told_when_the_gateway_stops(service: Service) -> None:
    key = fresh_key()
    async with door(service) as opened:
        waiting = asyncio.create_task(opened.say(key, "sleep 30"))
        async with asyncio.timeout(20):
            while not service.lines(key):
                await asyncio.sleep(0.02)
        opened.gateway.stopping.set()
        said = await asyncio.wait_for(waiting, 20)
    assert (said.status, said.json["status"]) == (202, "accepted")
    await service.client.cancel(key)


async def test_concurrent_sends_with_one_key_are_one_message(gateway: Door) -> None:
    key, headers = fresh_key(), {"Idempotency-Key": "same"}
    answers = await asyncio.gather(*(gateway.say(key, "remember tea", headers=headers) for _ in range(8)))
    assert {(one.status, one.json["text"]) for one in answers} == {(200, "I will remember: tea")}
    assert gateway.service.said(key) == ["remember tea"]


async def test_a_key_that_was_used_for_another_text_is_refused(gateway: Door) -> None:
    key, headers = fresh_key(), {"Idempotency-Key": "m1"}
    await gateway.say(key, "remember tea", headers=headers)
    here = await gateway.say(key, "remember coffee", headers=headers)
    async with door(gateway.service) as another:  # which knows it from the transcript alone
        there = await another.say(key, "remember coffee", headers=headers)
        same = await another.say(key, "remember tea", headers=headers)
    assert [(one.status, one.code) for one in (here, there)] == [(422, "id_used_again")] * 2
    assert here.json["error"]["param"] == "Idempotency-Key"
    assert same.json["text"] == "I will remember: tea"
    assert gateway.service.said(key) == ["remember tea"]


async def test_a_key_is_known_again_with_a_long_text_and_with_attachments(gateway: Door) -> None:
    key, long = fresh_key(), "remember " + "x" * 100_000
    stored = await gateway.post(f"/v1/sessions/{key}/attachments?name=a.txt", data=b"one")
    bodies = [{"text": long}, {"text": "hello", "attachments": [stored.json["attachment"]]}]
    path = f"/v1/sessions/{key}/messages?wait=30"
    for number, sent in enumerate(bodies):
        headers = {"Idempotency-Key": f"m{number}"}
        first = await gateway.post(path, json=sent, headers=headers)
        async with door(gateway.service) as another:
            same = await another.post(path, json=sent, headers=headers)
            other = await another.post(path, json={**sent, "text": sent["text"] + "y"}, headers=headers)
        assert (first.status, same.json, other.status) == (200, first.json, 422)


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({}, "text"),
        ({"text": " "}, "text"),
        ({"text": 1}, "text"),
        ({"text": "x", "mode": "later"}, "mode"),
        ({"text": "x", "extra": 1}, "extra"),
        ({"text": "x", "sender": "y" * 201}, "sender"),
        ({"text": "x", "attachments": ["none"]}, "attachments.0"),
        ({"text": "x", "attachments": [f"{'0' * 64} 3 text/plain a.txt"]}, "attachments.0"),
    ],
)
async def test_a_bad_field_is_named(quiet: Door, sent: dict[str, Any], param: str) -> None:
    refused = await quiet.post("/v1/sessions/s/messages", json=sent)
    assert (refused.status, refused.json["error"]["param"]) == (400, param)


async def test_bodies_that_are_no_json_are_said_to_be_none(quiet: Door) -> None:
    for raw in (b"{", b"[]", b"\xff", b'{"text": "\\ud800"}', b"null"):
        refused = await quiet.post("/v1/sessions/s/messages", data=raw)
        assert (refused.status, refused.json["error"]["type"]) == (400, "invalid_request_error"), raw


@pytest.mark.parametrize("query", ["wait=-1", "wait=601", "wait=nan", "wait=x", "weight=1"])
async def test_a_bad_wait_is_refused(quiet: Door, query: str) -> None:
    refused = await quiet.post(f"/v1/sessions/s/messages?{query}", json={"text": "x"})
    assert (refused.status, refused.json["error"]["param"]) == (400, query.partition("=")[0])


async def test_a_bad_key_or_id_is_refused(quiet: Door) -> None:
    control = await quiet.say("a\nb", "hello", wait=0)
    long = await quiet.say("x" * 201, "hello", wait=0)
    id = await quiet.say("s", "hello", wait=0, headers={"Idempotency-Key": "i" * 257})
    assert [(one.status, one.code) for one in (control, long, id)] == [
        (400, "bad_session_key"), (400, "bad_session_key"), (400, "bad_message_id"),
    ]  # fmt: skip


async def test_a_turn_that_is_cancelled_is_an_answer_that_says_so(gateway: Door) -> None:
    key = fresh_key()
    await gateway.say(key, "sleep 30", wait=0, headers={"Idempotency-Key": "m1"})
    running = await gateway.service.until(key, lambda status: status.turn != "")
    waiting = asyncio.create_task(gateway.say(key, "sleep 30", headers={"Idempotency-Key": "m1"}))
    cancelled = await gateway.post(f"/v1/sessions/{key}/cancel", json={"turn": running.turn})
    assert (cancelled.status, cancelled.json) == (200, {"turn": running.turn})
    assert ((await waiting).status, (await waiting).json["status"]) == (200, "cancelled")
    await gateway.service.until(key, lambda status: status.turn == "")
    none = await gateway.post(f"/v1/sessions/{key}/cancel")
    assert (none.status, none.json) == (200, {"turn": ""})


async def test_the_status_is_that_of_the_command(gateway: Door) -> None:
    key = fresh_key()
    await gateway.say(key, "remember tea")
    found = (await gateway.get(f"/v1/sessions/{key}")).json
    assert found["last_reply"] == "I will remember: tea"
    assert set(found) == {*Status.__dataclass_fields__, "temporal_url"}


async def test_a_closed_session_keeps_its_transcript_and_begins_anew_with_a_message(gateway: Door) -> None:
    key = fresh_key()
    await gateway.say(key, "remember tea")
    closed = await gateway.post(f"/v1/sessions/{key}/close")
    await gateway.service.until(key, lambda status: status.state == "closed")
    lines = (await gateway.get(f"/v1/sessions/{key}/messages")).json["lines"]
    again = await gateway.say(key, "remember coffee")
    assert closed.status == 202
    assert lines == gateway.service.lines(key)[: len(lines)] != []
    assert again.json["text"] == "I will remember: coffee"


async def test_a_session_that_never_was_is_not_found(gateway: Door) -> None:
    asked = [
        await gateway.get("/v1/sessions/none"),
        await gateway.get("/v1/sessions/none/messages"),
        await gateway.get("/v1/sessions/none/approvals"),
        await gateway.post("/v1/sessions/none/cancel", json={}),
        await gateway.post("/v1/sessions/none/cancel", json={"turn": "t-1"}),
        await gateway.post("/v1/sessions/none/close"),
    ]
    assert {(one.status, one.code) for one in asked} == {(404, "no_such_session")}


async def listed(opened: Door, query: str = "", **how: Any) -> list[list[str]]:
    """Keys, page by page."""
    pages, cursor = list[list[str]](), ""
    while True:
        found = await opened.get(f"/v1/sessions?{query}&cursor={cursor}", **how)
        assert found.status == 200, found.raw
        pages.append([row["key"] for row in found.json["sessions"]])
        cursor = found.json["next"]
        if cursor is None:
            return pages


async def until_listed(opened: Door, keys: set[str], query: str = "limit=200") -> list[str]:
    """Temporal's visibility comes a moment later."""
    async with asyncio.timeout(20):
        while True:
            found = [key for page in await listed(opened, query) for key in page]
            if keys <= set(found):
                return found
            await asyncio.sleep(0.1)


@pytest.fixture
async def corner(service: Service, tmp_path: Path) -> AsyncIterator[tuple[Door, str]]:
    """A gateway with a token, and the prefix below which that reaches sessions: none of other tests are listed."""
    prefix, path = fresh_key("corner"), tmp_path / "corner.toml"
    path.write_text(f'[tokens.corner]\ntoken = "corner-token-0123456789"\nprefixes = ["{prefix}"]\n')
    path.chmod(0o600)
    async with door(service, token_file=path, token="") as opened:
        opened.token = "corner-token-0123456789"
        yield opened, prefix


async def test_sessions_are_listed_in_pages_the_newest_first(corner: tuple[Door, str]) -> None:
    gateway, prefix = corner
    keys = [f"{prefix}/{number}" for number in range(5)]
    for key in keys:
        await gateway.say(key, "remember tea")
    whole = await until_listed(gateway, set(keys))
    pages = await listed(gateway, "limit=2")
    assert len(whole) == 5
    assert all(len(page) <= 2 for page in pages)
    assert [key for page in pages for key in page] == whole
    row = next(row for row in (await gateway.get("/v1/sessions")).json["sessions"] if row["key"] == keys[0])
    assert set(row) == {"key", "kind", "running", "started_s", "needs"}
    assert row["running"] is True


async def test_a_session_that_was_closed_and_lives_again_is_listed_once(corner: tuple[Door, str]) -> None:
    gateway, prefix = corner
    key, gone = f"{prefix}/o'brien\\", f"{prefix}/gone"
    for closed in (key, key, gone):
        await gateway.say(closed, "remember tea")
        await gateway.service.client.close(closed)
        await gateway.service.until(closed, lambda status: status.state == "closed")
    await gateway.say(key, "remember coffee")
    await until_listed(gateway, {key, gone}, "limit=200&all=1")
    async with asyncio.timeout(20):
        while gone in await until_listed(gateway, {key}):
            await asyncio.sleep(0.1)
    pages = await listed(gateway, "limit=1&all=1")
    keys = [found for page in pages for found in page]
    assert (keys.count(key), keys.count(gone)) == (1, 1)


async def test_only_sessions_that_the_token_reaches_are_listed(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    path.write_text(TOKENS)
    path.chmod(0o600)
    mine = [f"team/{fresh_key()}", "team", f"api/phone/{fresh_key()}"]
    others = [f"teamwork-{fresh_key()}", f"other/{fresh_key()}", f"api/phones/{fresh_key()}"]
    for key in (*mine, *others):
        await service.ask(key, "remember tea")
    judge, phone = "judge-token-0123456789", "phone-token-0123456789"
    async with door(service, token_file=path, token="") as opened:
        opened.token = judge
        await until_listed(opened, {*mine, *others})
        opened.token = phone
        found = await until_listed(opened, set(mine))
    assert set(mine) <= set(found)
    assert all(key in ("main", "team") or key.startswith(("main/", "team/", "api/phone/")) for key in found)


@pytest.mark.parametrize("query", ["cursor=!!", "cursor=AAAA", "cursor=e30=", "limit=0", "limit=201", "before=1"])
async def test_a_bad_page_of_sessions_is_refused(gateway: Door, query: str) -> None:
    refused = await gateway.get(f"/v1/sessions?{query}")
    assert (refused.status, refused.json["error"]["param"]) == (400, query.partition("=")[0])


async def test_a_transcript_is_read_in_pages_from_either_end(quiet: Door) -> None:
    log = TranscriptLog(quiet.service.volume, "s", ThreadPoolExecutor(1))
    await write_lines(log, 25, "tea")

    async def page(query: str) -> tuple[list[int], int, int, bool]:
        found = (await quiet.get(f"/v1/sessions/s/messages?{query}")).json
        return [line["seq"] for line in found["lines"]], found["first"], found["last"], found["more"]

    assert await page("limit=10") == ([*range(16, 26)], 16, 25, True)
    assert await page("limit=10&before=16") == ([*range(6, 16)], 6, 15, True)
    assert await page("limit=10&before=6") == ([*range(1, 6)], 1, 5, False)
    assert await page("limit=10&before=1") == ([], 0, 0, False)
    assert await page("limit=10&after=0") == ([*range(1, 11)], 1, 10, True)
    assert await page("limit=10&after=15") == ([*range(16, 26)], 16, 25, False)
    assert await page("limit=10&after=25") == ([], 0, 0, False)
    assert (await quiet.get("/v1/sessions/s/messages?limit=25")).json["lines"] == quiet.service.lines("s")
    both = await quiet.get("/v1/sessions/s/messages?after=1&before=3")
    assert (both.status, both.json["error"]["param"]) == (400, "before")


async def test_a_session_that_has_only_just_begun_has_an_empty_transcript(quiet: Door) -> None:
    key = fresh_key()
    await quiet.say(key, "hello", wait=0)
    assert (await quiet.get(f"/v1/sessions/{key}/messages")).json == {"lines": [], "first": 0, "last": 0, "more": False}


LINES = st.lists(st.integers(0, 400), max_size=30)


@given(LINES, st.sets(st.integers(0, 29)), st.integers(0, 32), st.integers(1, 12), st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_page_is_what_a_search_of_the_whole_file_would_find(
    lengths: list[int], bad: set[int], at: int, limit: int, torn: bool
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        volume = Volume(Path(folder) / "v")
        volume.create()
        lines = [b'{"seq":%d,"x":"%s"}' % (seq, b"x" * length) for seq, length in enumerate(lengths, 1)]
        whole = b"".join((b"no json\n" if at in bad else b"") + raw + b"\n" for at, raw in enumerate(lines))
        with volume.session_folder("k", create=True):
            (volume.path_of("k") / "history.jsonl").write_bytes(whole + (b'{"seq":' if torn else b""))
        on, back = page_on(volume, "k", at, limit), page_back(volume, "k", at + 1, limit)
        last = page_back(volume, "k", None, limit)
    assert on.lines == tuple(lines[at : at + limit])
    assert back.lines == tuple(lines[:at][-limit:])
    assert last.lines == tuple(lines[-limit:])
    assert (on.more, back.more) == (len(lines) > at + limit, len(lines[:at]) > limit)


def test_a_page_ends_before_it_is_large_but_holds_one_line(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_BYTES", 1_000)
    lines = [b'{"seq":%d,"x":"%s"}' % (seq, b"x" * length) for seq, length in enumerate([400, 400, 400, 5_000], 1)]
    with volume.session_folder("k", create=True):
        (volume.path_of("k") / "history.jsonl").write_bytes(b"".join(raw + b"\n" for raw in lines))
    seen, pages = list[bytes](), 0
    while True:
        page = page_on(volume, "k", len(seen), 100)
        seen, pages = [*seen, *page.lines], pages + 1
        if not page.more:
            break
    assert (seen, pages) == (lines, 3)


async def test_a_body_that_is_too_large_is_refused_before_it_is_read(make_service: Callable[..., Any]) -> None:
    async with door(await make_service(), max_body_bytes=100_000) as opened:
        declared = await opened.say("s", "x" * 100_001, wait=0)

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b" " * 10_000

        chunked = await opened.post("/v1/sessions/s/messages", data=pieces())
    assert [(one.status, one.code) for one in (declared, chunked)] == [(413, "too_large")] * 2


async def test_a_body_that_comes_too_slowly_is_given_up(quiet: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_S", 0.2)
    never = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"text":'
        await never.wait()

    slow = asyncio.create_task(quiet.post("/v1/sessions/s/messages", data=pieces()))
    answered = await asyncio.wait_for(slow, 10)
    assert (answered.status, answered.code) == (408, "too_slow")


@asynccontextmanager
async def bounded(opened: Door, idle_s: float) -> AsyncIterator[tuple[str, int]]:
    """The same gateway behind the runner that bounds connections."""
    runner = runner_of(application(opened.gateway), idle_s=idle_s)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][:2]
    finally:
        await runner.cleanup()


HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("sent", [b"", HEAD[:15], HEAD + b"X-Slow: ", HEAD + b"\r\n"])
async def test_a_connection_that_sends_nothing_or_no_whole_head_is_closed(quiet: Door, sent: bytes) -> None:
    async with bounded(quiet, 0.3) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(sent)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200") == sent.endswith(b"\r\n\r\n")


async def test_a_head_that_trickles_in_is_not_waited_for(quiet: Door) -> None:
    async with bounded(quiet, 0.5) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        ended = asyncio.create_task(reader.read())
        writer.write(HEAD)
        async with asyncio.timeout(10):
            while not ended.done():
                writer.write(b"X-More: 1\r\n")
                await asyncio.sleep(0.05)
        writer.close()
    (said,) = await asyncio.gather(ended, return_exceptions=True)
    assert said == b"" or isinstance(said, ConnectionError), "closed, perhaps with what was not read yet"


async def test_a_head_that_is_too_large_is_refused(quiet: Door) -> None:
    async with bounded(quiet, 5) as (host, port), aiohttp.ClientSession() as http:
        headers = {"X-Large": "x" * (HEAD_BYTES + 1)}
        async with http.get(f"http://{host}:{port}/healthz", headers=headers) as response:
            assert response.status == 400


async def test_nobody_waits_for_the_reply_of_a_client_that_has_left(gateway: Door) -> None:
    key = fresh_key()
    async with bounded(gateway, 5) as (host, port):
        with socket.create_connection((host, port)) as connection:
            raw = b'{"text": "sleep 5"}'
            head = f"POST /v1/sessions/{key}/messages?wait=600 HTTP/1.1\r\nHost: localhost\r\n"
            head += f"Authorization: Bearer {gateway.token}\r\nContent-Length: {len(raw)}\r\n\r\n"
            connection.sendall(head.encode() + raw)
            async with asyncio.timeout(10):
                while not gateway.service.lines(key):
                    await asyncio.sleep(0.02)
        async with asyncio.timeout(10):
            while 'method="POST",route="/v1/sessions/{key}/messages",status="499"' not in await counted(gateway):
                await asyncio.sleep(0.02)
    assert (await gateway.say(key, "remember tea")).json["text"].endswith("I will remember: tea")


async def counted(opened: Door) -> str:
    return (await opened.get("/metrics", token="")).raw.decode()


async def test_a_busy_session_is_a_429_with_a_time(quiet: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Temporal takes 10,000 signals a run: too many for a test, so its refusal is played."""

    async def busy(*_: Any, **__: Any) -> None:
        raise SessionBusy("session 's' takes no more messages right now")

    monkeypatch.setattr(SessionClient, "_signal", busy)
    refused = await quiet.say("s", "hello", wait=0)
    assert (refused.status, refused.code) == (429, "session_busy")
    assert int(refused.headers["Retry-After"]) > 0


async def test_a_full_queue_is_a_429_with_a_time(gateway: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_session.domain.inbox.PENDING_MESSAGES", 0)
    refused = await gateway.say(fresh_key(), "hello")
    assert (refused.status, refused.code) == (429, "queue_full")
    assert int(refused.headers["Retry-After"]) > 0


async def test_temporal_that_is_away_is_a_503_with_a_time(tmp_path: Path) -> None:
    server = EmbeddedTemporal(None, tmp_path / "log")
    await server.start()
    settings = settings_for(tmp_path / "data", server.address)
    Volume(settings.data_dir).create()
    async with door(Service(settings, await connect(settings))) as opened:
        before = await opened.say("s", "hello", wait=0)
        await server.stop(0)
        away = await asyncio.gather(
            opened.say("s", "hello", wait=0), opened.get("/v1/sessions/s"), opened.get("/v1/sessions"),
            opened.post("/v1/sessions/s/close"),
        )  # fmt: skip
        ready, alive = await opened.get("/readyz", token=""), await opened.get("/healthz", token="")
    assert before.status == 202
    assert {(one.status, one.code, one.headers["Retry-After"]) for one in away} == {(503, "temporal_unavailable", "2")}
    assert (ready.status, ready.json["temporal"], ready.json["volume"], alive.status) == (503, False, True, 200)


async def test_a_volume_that_is_away_is_a_503_with_a_time(quiet: Door) -> None:
    root = quiet.service.volume.root
    await quiet.say("s", "hello", wait=0)
    os.rename(root / MARKER, root / "marker")
    os.rename(root / "mac.key", root / "key")
    away = [
        await quiet.say("s", "hello", wait=0),
        await quiet.get("/v1/sessions/s/messages"),
        await quiet.post("/v1/sessions/s/attachments?name=a", data=b"x"),
        await quiet.get("/v1/sessions/s/artifacts/t-0123456789abcdef-1-0"),
    ]
    os.rename(root / "key", root / "mac.key")
    os.rename(root / "marker", root / MARKER)
    assert {(one.status, one.code, one.headers["Retry-After"]) for one in away} == {(503, "volume_unavailable", "2")}
    assert (await quiet.say("s", "hello", wait=0)).status == 202


async def signals(gateway: Door, key: str) -> int:
    events = await gateway.service.events(key)
    return sum(event.HasField("workflow_execution_signaled_event_attributes") for event in events)


async def test_a_reply_is_asked_for_by_id_and_waiting_costs_the_session_nothing(gateway: Door) -> None:
    key = fresh_key()
    path = f"/v1/sessions/{key}/messages/m-1?wait="
    await gateway.say(key, "run sleep 2 && echo done", wait=0, headers={"Idempotency-Key": "m-1"})
    pending = await gateway.get(path + "0")
    found = await gateway.get(path + "30")
    unknown = await gateway.get(f"/v1/sessions/{key}/messages/m-2")
    assert (pending.status, pending.json["status"]) == (202, "accepted")
    assert (found.status, found.json["text"]) == (200, "done")
    assert (unknown.status, unknown.code) == (404, "no_such_message")
    assert await signals(gateway, key) == 1

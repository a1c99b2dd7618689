"""Server-sent events: every line once, past and present joined without a gap; live events; nobody holds up others."""

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_session.gateway import events, feed, watcher
from agent_session.gateway.followed import Busy, Followed
from agent_session.live.events import DELTA, STEP, TURN_ENDED, TURN_STARTED, LiveEvent
from agent_session.live.hub import LiveHub
from agent_session.live.publisher import LivePublisher
from agent_session.transcript.lines import event_line
from agent_session.transcript.log import TranscriptLog
from agent_session.transcript.volume import MARKER, Volume
from tests.gateway.sse import has_lines, watching, write_lines
from tests.gateway.support import Door, door
from tests.support import Service, fresh_key


@pytest.fixture
async def quiet(make_service: Callable[..., Any]) -> AsyncIterator[Door]:
    """A gateway without a worker: tests write the transcript themselves."""
    async with door(await make_service()) as opened:
        yield opened


@pytest.fixture
def log(quiet: Door) -> TranscriptLog:
    return log_of(quiet, "s")


def log_of(opened: Door, key: str) -> TranscriptLog:
    return TranscriptLog(opened.service.volume, key, ThreadPoolExecutor(1))


@asynccontextmanager
async def bus(folder: Path) -> AsyncIterator[Callable[[LiveEvent], None]]:
    """A live bus; what it yields publishes."""
    hub = LiveHub(folder)
    await hub.start()
    try:
        yield hub.publish
    finally:
        await hub.stop()


def live(kind: str, text: str = "", *, turn: str = "t-1", step: int = 1) -> LiveEvent:
    return LiveEvent(session="s", kind=kind, turn=turn, step=step, text=text)


async def test_lines_come_as_they_stand_in_the_file_with_their_seq_as_id(gateway: Door) -> None:
    key = fresh_key()
    async with watching(gateway, key, "?after=0") as stream:
        await gateway.say(key, "remember tea")
        seen = await stream.until(lambda s: any(e.data.get("event") == "ended" for e in s.seen if e.kind == "line"))
    lines = gateway.service.lines(key)
    assert [event.data for event in seen.seen if event.kind == "line"] == lines
    assert seen.lines == [line["seq"] for line in lines] == list(range(1, len(lines) + 1))


async def test_without_an_id_the_stream_begins_with_what_comes_next(quiet: Door, log: TranscriptLog) -> None:
    await write_lines(log, 3)
    async with watching(quiet, "s") as stream:
        await write_lines(log, 2)
        await stream.until(has_lines(2))
    assert stream.lines == [4, 5]


async def test_a_stream_that_broke_before_its_first_line_can_go_on_too(quiet: Door, log: TranscriptLog) -> None:
    await write_lines(log, 3)
    async with watching(quiet, "s") as first:
        await first.response.content.readline()
        assert (await first.response.content.readline()) == b"id: 3\n"
    await write_lines(log, 2)
    async with watching(quiet, "s", headers={"Last-Event-ID": "3"}) as second:
        await second.until(has_lines(2))
    assert second.lines == [4, 5]


@pytest.mark.parametrize(
    ("query", "headers", "expected"),
    [
        ("?after=0", {}, [1, 2, 3, 4, 5]),
        ("?after=3", {}, [4, 5]),
        ("", {"Last-Event-ID": "4"}, [5]),
        ("?after=1", {"Last-Event-ID": "3"}, [4, 5]),
    ],
)
async def test_a_stream_goes_on_behind_the_line_that_was_seen(
    quiet: Door, log: TranscriptLog, query: str, headers: dict[str, str], expected: list[int]
) -> None:
    await write_lines(log, 5)
    async with watching(quiet, "s", query, headers=headers) as stream:
        await stream.until(has_lines(len(expected)))
    assert stream.lines == expected


@pytest.mark.parametrize("given", ["x", "-1", "1.5", "٣", "9" * 30])
async def test_an_id_that_is_no_seq_is_refused(quiet: Door, given: str) -> None:
    refused = await quiet.get("/v1/sessions/s/events", headers={"Last-Event-ID": given})
    assert (refused.status, refused.json["error"]["param"]) == (400, "Last-Event-ID")


async def test_an_id_beyond_the_end_gets_what_comes_next(quiet: Door, log: TranscriptLog) -> None:
    await write_lines(log, 3)
    async with watching(quiet, "s", "?after=99") as stream:
        await write_lines(log, 1)
        await stream.until(has_lines(1))
    assert stream.lines == [4]


async def test_watchers_that_join_at_any_moment_get_each_line_once(quiet: Door, log: TranscriptLog) -> None:
    """Past and present are joined while a writer appends as fast as it can."""
    rng, total, writing = random.Random(7), 900, True
    await write_lines(log, 200)

    async def write() -> None:
        nonlocal writing
        written = 200
        while written < total:
            count = min(rng.randint(1, 10), total - written)
            await write_lines(log, count, "x" * rng.randint(0, 500))
            written += count
        writing = False

    async def watch() -> tuple[int, list[int]]:
        after = rng.randint(0, 200)
        async with watching(quiet, "s", f"?after={after}") as stream:
            await stream.until(lambda s: bool(s.lines) and s.lines[-1] == total, 60)
        return after, stream.lines

    async def keep_joining() -> list[tuple[int, list[int]]]:
        tasks = list[asyncio.Task[tuple[int, list[int]]]]()
        while writing and len(tasks) < 20:
            tasks.append(asyncio.create_task(watch()))
            await asyncio.sleep(rng.random() / 20)  # moments of all kinds are what is tried here
        return await asyncio.gather(*tasks)

    _, seen = await asyncio.gather(write(), keep_joining())
    assert len(seen) > 5
    for after, lines in seen:
        assert lines == list(range(after + 1, total + 1))


async def test_a_session_that_does_not_live_yet_can_be_watched(quiet: Door) -> None:
    async with watching(quiet, "later") as stream:
        await write_lines(log_of(quiet, "later"), 2)
        await stream.until(has_lines(2))
    assert stream.lines == [1, 2]


async def test_after_a_restore_the_lines_that_come_are_told_although_their_numbers_were_used(
    quiet: Door, log: TranscriptLog
) -> None:
    path = quiet.service.volume.path_of("s") / "history.jsonl"
    await write_lines(log, 3, "kept")
    shutil.copy(path, path.with_suffix(".old"))
    async with watching(quiet, "s", "?after=0") as stream:
        await write_lines(log, 2, "lost")
        await stream.until(has_lines(5))
        os.replace(path.with_suffix(".old"), path)
        await write_lines(log, 1, "new")
        await stream.until(has_lines(6))
    assert stream.lines == [1, 2, 3, 4, 5, 4]
    assert stream.seen[-1].data["content"] == "new"


async def test_a_watcher_in_the_middle_of_a_turn_gets_what_it_has_shown_so_far(quiet: Door) -> None:
    async with bus(quiet.service.settings.data_dir) as publish:
        publish(live(TURN_STARTED, "hello"))
        publish(live(STEP))
        publish(live(DELTA, "The "))
        async with watching(quiet, "s") as first:
            await first.until(lambda s: bool(s.live(DELTA)))
            publish(live(DELTA, "quick "))
            await first.until(lambda s: len(s.live(DELTA)) == 2)
            async with watching(quiet, "s") as second:
                await second.until(lambda s: bool(s.live(DELTA)))
                publish(live(DELTA, "fox"))
                publish(live(TURN_ENDED))
                for stream in (first, second):
                    await stream.until(lambda s: bool(s.live(TURN_ENDED)))
    for stream in (first, second):
        assert "".join(one["text"] for one in stream.live(DELTA)) == "The quick fox"
        assert [one["kind"] for one in stream.live()][:2] == [TURN_STARTED, STEP]
        assert all(event.id == stream.seen[0].id for event in stream.seen)


async def test_live_events_come_back_with_the_bus_and_lines_come_without_it(
    quiet: Door, log: TranscriptLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "RECONNECT_S", 0.05)
    folder = quiet.service.settings.data_dir
    async with watching(quiet, "s") as stream:
        async with bus(folder) as publish:
            publish(live(TURN_STARTED))
            publish(live(STEP))
            publish(live(DELTA, "seen "))
            await stream.until(lambda s: bool(s.live(DELTA)))
        await write_lines(log, 1)
        await stream.until(has_lines(1))
        async with bus(folder) as publish, asyncio.timeout(30):
            back = asyncio.create_task(stream.until(lambda s: any(one["turn"] == "t-2" for one in s.live())))
            while not back.done():
                publish(live(STEP, turn="t-2", step=1))
                publish(live(DELTA, "again", turn="t-2", step=1))
                await asyncio.sleep(0.02)
    assert [one["text"] for one in stream.live(DELTA)].count("seen ") == 1


async def test_a_turn_whose_end_the_bus_did_not_tell_is_not_shown_to_those_who_come_later(
    quiet: Door, log: TranscriptLog
) -> None:
    async with bus(quiet.service.settings.data_dir) as publish:
        publish(live(TURN_STARTED, "hello", turn="t-0123456789abcdef"))
        async with watching(quiet, "s") as first:
            await first.until(lambda s: bool(s.live(TURN_STARTED)))
            await log.append(
                lambda view: view.append(event_line("t-0123456789abcdef", "ended", outcome="failed"), 1), None
            )
            await first.until(has_lines(1))
            async with watching(quiet, "s") as second:
                await write_lines(log, 1)
                await second.until(has_lines(1))
    assert second.live() == []


async def test_a_turn_is_seen_as_it_happens(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    async with bus(service.settings.data_dir), service.worker() as services, door(service) as opened:
        services.live = publisher = LivePublisher(service.settings.data_dir)
        publishing = asyncio.create_task(publisher.run())
        key = fresh_key()
        async with watching(opened, key) as stream:
            async with asyncio.timeout(10):
                while not publisher.connected:
                    await asyncio.sleep(0.02)
            said = await opened.say(key, "remember tea")
            await stream.until(lambda s: bool(s.live(TURN_ENDED)))
        publishing.cancel()
    assert "".join(one["text"] for one in stream.live(DELTA)) == said.json["text"]
    assert stream.live(TURN_STARTED)[0]["text"] == "remember tea"


async def test_a_quiet_stream_is_kept_alive(quiet: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.05)
    async with watching(quiet, "s") as stream:
        read = await asyncio.wait_for(stream.response.content.readuntil(b": keep-alive\n\n: keep-alive\n\n"), 10)
    assert read.startswith(b"retry: 1000\nid: 0\n\n")
    assert stream.response.content_type == "text/event-stream"
    assert stream.response.headers["Cache-Control"] == "no-store"


async def test_a_slow_watcher_is_dropped_and_holds_up_nobody(
    quiet: Door, log: TranscriptLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "WAITING_BYTES", 2_000_000)
    lines = 60
    async with watching(quiet, "s") as slow, watching(quiet, "s") as quick:
        for _ in range(lines):
            await write_lines(log, 1, "x" * 500_000)
            await quick.until(has_lines(len(quick.lines) + 1))
        await slow.until(lambda s: False)
    assert quick.lines == list(range(1, lines + 1))
    assert slow.seen[-1].kind == "dropped"
    assert slow.lines == list(range(1, len(slow.lines) + 1))
    assert len(slow.lines) < lines
    metrics = (await quiet.get("/metrics", token="")).raw.decode()
    assert "agent_session_streams_dropped_total 1.0" in metrics
    async with watching(quiet, "s", headers={"Last-Event-ID": slow.last_id}) as again:
        await again.until(has_lines(lines - len(slow.lines)))
    assert slow.lines + again.lines == list(range(1, lines + 1))


async def test_streams_end_when_the_gateway_stops(quiet: Door) -> None:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(watching(quiet, key)) for key in ("s", "s", "other")]
        quiet.gateway.stopping.set()
        async with asyncio.timeout(5):
            ends = [await stream.next() for stream in streams]
    assert ends == [None, None, None]
    assert (await quiet.get("/v1/sessions/s/events")).status == 503


async def test_a_stream_ends_when_its_token_is_withdrawn(
    make_service: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.05)
    tokens = tmp_path / "tokens"
    tokens.write_text("first-token-0123456789\n")
    tokens.chmod(0o600)
    async with door(await make_service(), token_file=tokens) as opened:
        async with watching(opened, "s", token="first-token-0123456789") as stream:
            await stream.response.content.readuntil(b": keep-alive\n\n")
            tokens.write_text("second-token-0123456789\n")
            assert await asyncio.wait_for(stream.next(), 10) is None


async def test_a_client_that_leaves_leaves_nothing_behind(quiet: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.05)
    async with watching(quiet, "s") as stream:
        await stream.response.content.readline()
        assert await open_streams(quiet) == 1
        stream.response.close()
        async with asyncio.timeout(10):
            while await open_streams(quiet):
                await asyncio.sleep(0.02)


async def open_streams(opened: Door) -> float:
    metrics = (await opened.get("/metrics", token="")).raw.decode()
    return next(
        float(line.split()[1]) for line in metrics.splitlines() if line.startswith("agent_session_streams_open ")
    )


async def test_more_streams_than_a_process_holds_are_refused(quiet: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "STREAMS", 1)
    async with watching(quiet, "s"):
        refused = await quiet.get("/v1/sessions/s/events")
    assert (refused.status, refused.code, refused.headers["Retry-After"]) == (429, "too_many_streams", "5")


async def test_a_volume_that_is_away_is_said_and_a_stream_goes_on_when_it_is_back(
    quiet: Door, log: TranscriptLog
) -> None:
    marker = quiet.service.volume.root / MARKER
    await write_lines(log, 1)
    async with watching(quiet, "s", "?after=0") as stream:
        await stream.until(has_lines(1))
        os.rename(marker, marker.with_suffix(".away"))
        away = await quiet.get("/v1/sessions/s/events")
        os.rename(marker.with_suffix(".away"), marker)
        await write_lines(log, 1)
        await stream.until(has_lines(2))
    assert (away.status, away.code) == (503, "volume_unavailable")
    assert int(away.headers["Retry-After"]) > 0


async def test_each_line_comes_once_when_the_gateway_is_killed_and_another_comes(service: Service) -> None:
    key, seen, last_id = fresh_key(), list[int](), "0"
    for number in range(3):
        async with door(service) as opened:
            async with watching(opened, key, headers={"Last-Event-ID": last_id}) as stream:
                await opened.say(key, f"remember {number}", headers={"Idempotency-Key": f"m{number}"})
                await stream.until(has_lines(1 + number))
                seen, last_id = seen + stream.lines, stream.last_id
    await service.until(key, lambda status: status.state == "idle")
    async with door(service) as opened, watching(opened, key, headers={"Last-Event-ID": last_id}) as stream:
        whole = len(service.lines(key))
        await stream.until(lambda s: len(seen + s.lines) >= whole)
    assert seen + stream.lines == list(range(1, whole + 1))


LENGTHS = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@given(LENGTHS, st.data())
@settings(max_examples=40, deadline=None)
def test_a_transcript_that_is_read_on_gives_each_line_once_wherever_writes_are_torn(
    counts: list[int], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        volume = Volume(Path(folder) / "v")
        volume.create()
        followed, told, seq = Followed(volume, "k"), list[int](), 0
        assert followed.look() == []
        with volume.session_folder("k", create=True):
            path = volume.path_of("k") / "history.jsonl"
        with path.open("ab", buffering=0) as file:
            for count in counts:
                for _ in range(count):
                    seq += 1
                    raw = b'{"seq":%d,"turn":"t"}\n' % seq
                    cut = data.draw(st.integers(0, len(raw)))
                    file.write(raw[:cut])
                    told += [one for one, _, _ in followed.look()]
                    file.write(raw[cut:])
                told += [one for one, _, _ in followed.look()]
    assert told == list(range(1, seq + 1))


def test_a_write_that_is_under_way_is_not_told(volume: Volume) -> None:
    """I5: it may still be taken back."""
    import fcntl

    followed = Followed(volume, "k")
    with volume.session_folder("k", create=True):
        path = volume.path_of("k") / "history.jsonl"
    path.write_bytes(b'{"seq":1}\n')
    assert followed.look() == []
    with path.open("ab", buffering=0) as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        writer.write(b'{"seq":2}\n')
        with pytest.raises(Busy):
            followed.look()
        writer.truncate(10)
        writer.write(b'{"seq":2,"again":1}\n')
    assert followed.look() == [(2, b'{"seq":2,"again":1}', "")]


async def test_a_browser_gets_no_stream_without_a_token(quiet: Door) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"{quiet.url}/v1/sessions/s/events") as response:
        assert response.status == 401

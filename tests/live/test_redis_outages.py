"""Redis is slow, stopped, killed, full or refuses: no turn waits for it, nobody is shown half a text as a whole, and
all come back by themselves."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent_session.live.bus import RedisBus, live_bus
from agent_session.live.events import DELTA, DROPPED, STEP, TOOL_OUTPUT, TURN_ENDED, TURN_STARTED, LiveEvent
from agent_session.live.redis_names import names_of
from agent_session.live.redis_publisher import WAITING_EVENTS
from agent_session.live.redis_watch import WAITING_EVENTS as WATCHER_EVENTS
from agent_session.settings import Settings
from tests.live.support import (
    RedisServer,
    Watching,
    connected,
    delta,
    is_kind,
    publishing,
    running_redis,
    settings_of,
    text_of,
)
from tests.support import Service, fresh_key


class Following:
    """As the terminal does: watches, and comes again whenever the stream ends."""

    def __init__(self, settings: Settings, session: str) -> None:
        self.seen: list[LiveEvent] = []
        self._settings, self._session = settings, session
        self._news, self._ready = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Following"]:
        task = asyncio.create_task(self._follow())
        try:
            yield self
        finally:
            task.cancel()

    async def _follow(self) -> None:
        while True:
            try:
                async with aclosing(live_bus(self._settings).watch(self._session, self._ready, replay=True)) as events:
                    async for event in events:
                        self.seen.append(event)
                        self._news.set()
            except OSError:
                await asyncio.sleep(0.05)
            self._ready = asyncio.Event()

    async def listens(self) -> None:
        async with asyncio.timeout(30):
            while not self._ready.is_set():
                await asyncio.sleep(0.01)

    async def saw(self, kind: str, text: str = "") -> None:
        async with asyncio.timeout(30):
            while not any(one.kind == kind and text in one.text for one in self.seen):
                self._news.clear()
                await self._news.wait()


async def test_redis_killed_in_mid_turn_costs_the_turn_nothing_and_events_flow_again(
    make_service: Callable[..., Any], redis: RedisServer, tmp_path: Path
) -> None:
    service: Service = await make_service(live={"url": redis.url})
    key = fresh_key()
    gate = tmp_path / "gate"
    with structlog.testing.capture_logs() as logs:
        async with service.worker() as services, publishing(service.settings) as bus:
            services.live = bus
            async with Following(service.settings, key).running() as follower:
                await follower.listens()
                asking = asyncio.create_task(
                    service.ask(key, f"run echo before; until [ -e {gate} ]; do sleep 0.02; done; echo after")
                )
                await follower.saw(TOOL_OUTPUT, "before")
                await redis.kill()
                gate.touch()
                reply = await asyncio.wait_for(asking, 30)
                assert reply.ok
                assert "after" in reply.text
                await redis.start()
                assert isinstance(bus, RedisBus)
                await connected(bus)
                await follower.listens()
                again = await service.ask(key, "remember the second")
                await follower.saw(TURN_ENDED, again.text)
    second = [event.kind for event in follower.seen if event.turn == again.turn]
    assert second[0] == TURN_STARTED
    assert second[-1] == TURN_ENDED
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == [
        "live progress is not published; it is tried again and again"
    ]
    assert [line["event"] for line in logs].count("live progress is published again") == 1


async def test_publishing_waits_for_nobody_and_keeps_little_while_redis_hangs(
    redis: RedisServer, over_redis: Settings
) -> None:
    async with publishing(over_redis) as bus:
        assert isinstance(bus, RedisBus)
        async with redis.stopped():
            began = time.monotonic()
            for number in range(WAITING_EVENTS * 6):
                bus.publish(delta("s", f"{number} ", turn=f"t-{number}"))
            took = time.monotonic() - began
            assert len(bus.publisher._waiting) <= WAITING_EVENTS  # pyright: ignore[reportPrivateUsage]
        assert took < 5  # of 30,000 events; nothing was waited for
        async with Following(over_redis, "s").running() as follower:
            while True:  # until Redis has been found again
                bus.publish(LiveEvent(session="s", kind=TURN_ENDED, turn="t-x", text="flows"))
                try:
                    async with asyncio.timeout(0.2):
                        await follower.saw(TURN_ENDED, "flows")
                    break
                except TimeoutError:
                    continue


async def test_who_watches_is_told_of_a_hole_and_the_rest_of_a_broken_text_is_left_to_its_end(
    over_redis: Settings,
) -> None:
    async with publishing(over_redis) as bus:
        watching = await Watching(bus, "s", is_kind(DROPPED)).ready()
        bus.publish(LiveEvent(session="s", kind=STEP, turn="t-1", step=1))
        bus.publish(delta("s", "one "))
        await watching.saw(lambda seen: text_of(seen) == "one ")
        for number in range(WAITING_EVENTS + 1):  # all at once: more than waits
            bus.publish(delta("s", f"{number} "))
        seen = await watching.end()
        assert (text_of(seen), seen[-1].kind) == ("one ", DROPPED)
        again = await Watching(bus, "s", is_kind(TURN_ENDED), replay=True).ready()
        bus.publish(delta("s", "the rest of it"))
        bus.publish(LiveEvent(session="s", kind=STEP, turn="t-1", step=2))
        bus.publish(delta("s", "whole", step=2))
        bus.publish(LiveEvent(session="s", kind=TURN_ENDED, turn="t-1", text="whole"))
        seen = await again.end()
    assert [(event.kind, event.text) for event in seen] == [(STEP, ""), (DELTA, "whole"), (TURN_ENDED, "whole")]


async def test_a_text_whose_beginning_is_no_longer_kept_is_left_to_its_end(
    redis: RedisServer, over_redis: Settings
) -> None:
    """Redis may evict what it keeps, and keeps no more than a limit."""
    async with publishing(over_redis) as bus:
        here = await Watching(bus, "s", is_kind(TURN_ENDED)).ready()
        bus.publish(LiveEvent(session="s", kind=STEP, turn="t-1", step=1))
        bus.publish(delta("s", "one "))
        await here.saw(lambda seen: len(seen) == 2)
        assert await redis.ask("DEL", names_of(over_redis).of("s")) == 1
        bus.publish(delta("s", "two "))
        await here.saw(lambda seen: len(seen) == 3)
        late = await Watching(live_bus(over_redis), "s", is_kind(TURN_ENDED), replay=True).ready()
        bus.publish(delta("s", "three"))
        bus.publish(LiveEvent(session="s", kind=TURN_ENDED, turn="t-1", text="one two three"))
        assert [event.kind for event in await late.end()] == [TURN_ENDED]
        assert text_of(await here.end()) == "one two three"


async def test_a_watcher_that_is_too_slow_is_dropped_with_a_note_and_nobody_else_is(over_redis: Settings) -> None:
    async with publishing(over_redis) as bus:
        ready = asyncio.Event()
        slow = live_bus(over_redis).watch("s", ready)
        first = asyncio.create_task(anext(slow))
        await asyncio.wait_for(ready.wait(), 10)
        quick = await Watching(live_bus(over_redis), "s", is_kind(TURN_ENDED)).ready()
        count = WATCHER_EVENTS + 500
        for number in range(count):
            bus.publish(delta("s", f"{number} "))
            if number % 100 == 0:
                await quick.saw(lambda seen: len(seen) >= number)  # noqa: B023
        bus.publish(LiveEvent(session="s", kind=TURN_ENDED))
        assert text_of(await quick.end()) == "".join(f"{number} " for number in range(count))
        assert (await first).text == "0 "
        rest = [event async for event in slow]
    assert rest[0].kind == DROPPED
    assert len(rest) == 1


async def test_streams_end_with_an_error_when_redis_dies_and_at_once_where_there_is_none(
    redis: RedisServer, over_redis: Settings
) -> None:
    watching = [await Watching(live_bus(over_redis), key, is_kind(TURN_ENDED)).ready() for key in "abc"]
    await redis.kill()
    for one in watching:
        with pytest.raises(OSError, match="Redis at 127"):
            await one.end()
    with pytest.raises(OSError, match="Redis at 127"):
        await Watching(live_bus(over_redis), "a", is_kind(TURN_ENDED)).end()


async def test_a_full_redis_is_an_outage_that_is_logged_once(tmp_path: Path, data: Path) -> None:
    async with running_redis(tmp_path, "--maxmemory", "1mb", "--maxmemory-policy", "noeviction") as server:
        settings = settings_of(data, server.url)
        with structlog.testing.capture_logs() as logs:
            async with publishing(settings) as bus, Following(settings, "s").running() as follower:
                await follower.listens()
                for number in range(5):
                    bus.publish(delta("s", f"words {number}"))
                bus.publish(delta("other", "words"))
                tries = 0
                async with asyncio.timeout(30):
                    while tries < 4:  # how often it was tried, as Redis has counted
                        tries = calls_of(await server.ask("INFO", "commandstats"), b"script|load")
                await server.ask("CONFIG SET", "maxmemory", "0")
                await follower.saw(DROPPED)
                await connected(bus)
                await follower.listens()
                bus.publish(LiveEvent(session="s", kind=TURN_ENDED, text="done"))
                await follower.saw(TURN_ENDED, "done")
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert len(warnings) == 1
    assert "maxmemory" in warnings[0]["error"]
    assert [line["event"] for line in logs].count("live progress is published again") == 1


def calls_of(stats: bytes, command: bytes) -> int:
    """How often Redis was asked for it."""
    found = re.search(rb"cmdstat_" + re.escape(command) + rb":calls=(\d+)", stats)
    return int(found[1]) if found else 0

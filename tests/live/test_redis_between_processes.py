"""Many publishers and watchers over one Redis, in processes of their own, and how quick it is."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from agent_session.client import SessionClient
from agent_session.live.bus import live_bus
from agent_session.live.events import DELTA, STEP, TOOL_OUTPUT, TURN_ENDED, TURN_STARTED, LiveEvent, decode
from agent_session.settings import Settings
from tests.e2e.support import COMMAND, Up, clean_environment
from tests.live.life import LAST
from tests.live.support import (
    EARLY_S,
    ESCAPED,
    PASSWORD,
    RedisServer,
    Watching,
    connected,
    delta,
    is_kind,
    publishing,
    settings_of,
    text_of,
)
from tests.support import Service, fresh_key

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def life() -> AsyncIterator[Callable[..., Awaitable[asyncio.subprocess.Process]]]:
    """Start a process of `tests/live/life.py`; none is left behind."""
    started: list[asyncio.subprocess.Process] = []

    async def start(*words: str) -> asyncio.subprocess.Process:
        started.append(await _life(*words))
        return started[-1]

    yield start
    for one in started:
        if one.returncode is None:
            one.kill()
            await one.wait()


async def _life(*words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.live.life", *words, cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_watchers_of_other_processes_see_each_event_of_two_workers_once_and_in_order(
    redis: RedisServer, over_redis: Settings, life: Callable[..., Awaitable[asyncio.subprocess.Process]]
) -> None:
    data, count = str(over_redis.data_dir), 500
    watchers = [await life("watch", data, redis.url, "2", "shared") for _ in range(3)]
    watchers.append(await life("watch", data, redis.url, "1", "of-one"))
    async with asyncio.timeout(60):
        for one in watchers:
            assert one.stdout is not None
            assert await one.stdout.readline() == b"ready\n"
        workers = [
            await life("publish", data, redis.url, str(count), "one", "shared", "of-one"),
            await life("publish", data, redis.url, str(count), "two", "shared"),
        ]
        outputs = [(await one.communicate())[0] for one in watchers]
        for one in workers:
            await one.communicate(b"")
    expected = [str(number) for number in range(count)]
    for index, output in enumerate(outputs):
        events = [event for line in output.splitlines() if (event := decode(line)) is not None]
        for name in ("one", "two") if index < 3 else ("one",):
            assert [event.text for event in events if event.call == name and event.kind == TOOL_OUTPUT] == expected
            assert [event.call for event in events if event.kind == LAST].count(name) == 1
        assert len(events) == (2 if index < 3 else 1) * (count + 1)


async def test_two_hundred_watchers_share_one_connection(redis: RedisServer, over_redis: Settings) -> None:
    async with publishing(over_redis) as bus:
        first = await Watching(bus, "s-0", is_kind(TURN_ENDED)).ready()
        for key in range(20):
            bus.publish(LiveEvent(session=f"s-{key}", kind=STEP, turn="t-1", step=1))
            bus.publish(delta(f"s-{key}", f"before {key}, "))
        await first.saw(lambda seen: len(seen) == 2)
        watching = [Watching(live_bus(over_redis), f"s-{n % 20}", is_kind(TURN_ENDED), replay=True) for n in range(200)]
        for one in watching:
            await one.ready()
        clients = (await redis.ask("CLIENT", "LIST")).decode().splitlines()
        assert sum(" sub=20 " in line for line in clients) == 1
        assert len(clients) == 4  # a publisher, a subscriber, one that reads what was shown, and this one
        for number in range(50):
            for key in range(20):
                bus.publish(delta(f"s-{key}", f"{number},"))
        for key in range(20):
            bus.publish(LiveEvent(session=f"s-{key}", kind=TURN_ENDED))
        after = "".join(f"{number}," for number in range(50))
        for number, one in enumerate(watching):
            assert text_of(await one.end()) == f"before {number % 20}, {after}"
        await first.end()
    async with asyncio.timeout(EARLY_S):
        while len((await redis.ask("CLIENT", "LIST")).splitlines()) > 1:  # all were closed
            await asyncio.sleep(0.01)


async def test_a_worker_process_shows_its_turns_to_clients_of_another(
    make_service: Callable[..., Any], redis: RedisServer
) -> None:
    """The product's own worker command, and `SessionClient.events`."""
    service: Service = await make_service(live={"url": redis.url})
    settings = service.settings
    worker = await asyncio.create_subprocess_exec(
        *COMMAND, "worker", stderr=asyncio.subprocess.PIPE,
        env=clean_environment(
            settings.data_dir, AGENT_SESSION_LIVE__URL=redis.url, AGENT_SESSION_TASK_QUEUE=settings.task_queue,
            AGENT_SESSION_TEMPORAL__ADDRESS=settings.temporal.address,
        ),
    )  # fmt: skip
    try:
        await shows_a_turn(service.client)
    finally:
        worker.terminate()
        _, errors = await worker.communicate()
    assert PASSWORD not in errors.decode()
    assert ESCAPED not in errors.decode()


async def test_up_serves_no_socket_where_redis_is_the_bus(redis: RedisServer, tmp_path: Path) -> None:
    """A client without the setting is to fall back to the transcript, not to wait at a socket that tells nothing."""
    data = tmp_path / "up"
    up = Up(data, AGENT_SESSION_LIVE__URL=redis.url)
    try:
        await asyncio.to_thread(up.wait_ready)
        await shows_a_turn(await SessionClient.connect(settings_of(data, redis.url)))
        assert not (data / "live.sock").exists()
    finally:
        assert await asyncio.to_thread(up.stop) == 0
    logged = "".join(path.read_text() for path in [*(data / "logs").iterdir(), up.errors])
    assert PASSWORD not in logged
    assert ESCAPED not in logged


async def shows_a_turn(client: SessionClient) -> None:
    key, ready, kinds = fresh_key(), asyncio.Event(), list[str]()

    async def watched() -> str:
        async for event in client.events(key, ready, replay=True):
            kinds.append(event.kind)
            if event.kind == TURN_ENDED:
                return event.text
        return ""

    watching = asyncio.create_task(watched())
    await asyncio.wait_for(ready.wait(), EARLY_S)
    reply = await client.ask(key, "remember it", timeout_s=60)
    assert await asyncio.wait_for(watching, EARLY_S) == reply.text
    assert kinds[:3] == [TURN_STARTED, STEP, DELTA]


async def test_how_long_an_event_takes_from_worker_to_watcher(over_redis: Settings) -> None:
    """Printed, not judged: it depends on the machine."""
    async with publishing(over_redis) as bus:
        await connected(bus)
        delays: list[float] = []
        watching = await Watching(live_bus(over_redis), "s", is_kind(TURN_ENDED)).ready()
        for number in range(300):
            began = time.perf_counter()
            bus.publish(delta("s", str(number)))
            await watching.saw(lambda seen: len(seen) > number)  # noqa: B023
            delays.append((time.perf_counter() - began) * 1000)
        bus.publish(LiveEvent(session="s", kind=TURN_ENDED))
        assert len(await watching.end()) == 301
    print(f"publish to watcher: p50 {median(delays):.2f} ms, p95 {sorted(delays)[285]:.2f} ms")

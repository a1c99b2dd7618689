"""Many at once: watchers of one session, clients of many sessions. What is shared stays shared."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from temporalio.client import Client
from temporalio.runtime import MetricBuffer, Runtime, TelemetryConfig

from agent_session.connection import DATA_CONVERTER
from agent_session.gateway import feed
from agent_session.gateway.followed import Followed
from tests.gateway.sse import has_lines, watching
from tests.gateway.support import Door, door
from tests.support import Service, fresh_key

WATCHERS, SESSIONS = 200, 100


class Counted:
    """A connection to Temporal that counts every request over it."""

    def __init__(self) -> None:
        self._buffer = MetricBuffer(10_000)
        self.runtime = Runtime(telemetry=TelemetryConfig(metrics=self._buffer))

    def requests(self) -> int:
        """Since the last look."""
        updates = self._buffer.retrieve_updates()
        return sum(int(one.value) for one in updates if one.metric.name == "temporal_request")


@pytest.fixture
async def counted(service: Service, temporal_address: str) -> AsyncIterator[tuple[Door, Counted]]:
    """A gateway with a connection to Temporal of its own, in front of a service with a worker."""
    counting = Counted()
    client = await Client.connect(temporal_address, data_converter=DATA_CONVERTER, runtime=counting.runtime)
    async with door(Service(service.settings, client)) as opened:
        opened.http = await many_connections(opened)
        yield opened, counting
        await opened.http.close()


async def many_connections(opened: Door) -> aiohttp.ClientSession:
    await opened.http.close()
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


@pytest.mark.timeout(240)
async def test_many_watchers_get_every_line_and_cost_temporal_nothing(
    service: Service, counted: tuple[Door, Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, counting = counted
    key, followers = fresh_key(), list[Followed]()
    monkeypatch.setattr(feed, "Followed", lambda *given: followers.append(Followed(*given)) or followers[-1])
    await service.ask(key, "remember tea")
    counting.requests()
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(watching(opened, key, "?after=0")) for _ in range(WATCHERS)]
        for number in range(3):
            await service.ask(key, f"tools run echo {number}; list")
        whole = service.lines(key)
        await asyncio.gather(*(stream.until(has_lines(len(whole)), 120) for stream in streams))
    assert counting.requests() == 0
    assert (await opened.get(f"/v1/sessions/{key}")).status == 200
    assert counting.requests() > 0, "the count counts"
    assert len(followers) == 1
    for stream in streams:
        assert [event.data for event in stream.seen if event.kind == "line"] == whole


@pytest.mark.timeout(240)
async def test_many_clients_talk_to_many_sessions_without_an_error(counted: tuple[Door, Counted]) -> None:
    opened, _ = counted
    keys = [fresh_key("load") for _ in range(SESSIONS)]

    async def talk(key: str) -> list[tuple[int, Any]]:
        said = [await opened.say(key, f"remember {number}", wait=120) for number in range(2)]
        return [(one.status, one.json.get("text")) for one in said]

    answers = await asyncio.gather(*(talk(key) for key in keys))
    assert answers == [[(200, "I will remember: 0"), (200, "I will remember: 1")]] * SESSIONS

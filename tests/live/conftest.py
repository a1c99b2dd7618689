"""A real Redis, one a test, and both kinds of bus."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_session.live.hub import LiveHub
from agent_session.settings import Settings
from agent_session.transcript.volume import Volume
from tests.live.support import RedisServer, running_redis, settings_of


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of a volume."""
    Volume(tmp_path / "data").create()
    return tmp_path / "data"


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
def over_redis(redis: RedisServer, data: Path) -> Settings:
    return settings_of(data, redis.url)


@pytest.fixture(params=["socket", "redis"])
async def settings(request: pytest.FixtureRequest, tmp_path: Path, data: Path) -> AsyncIterator[Settings]:
    """Of a volume with a live bus: both keep the same promises."""
    if request.param == "redis":
        async with running_redis(tmp_path) as server:
            yield settings_of(data, server.url)
        return
    hub = LiveHub(data)
    await hub.start()
    yield settings_of(data)
    await hub.stop()

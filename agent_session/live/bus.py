"""The live bus: what workers publish to and watchers watch, and the one place that chooses which it is.

Without `live.url` it is `live.sock`, relayed by the `up` of this data directory; with it, Redis, for workers and
watchers on any machine. Both keep the same promises, and tests hold them to it.
"""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Protocol

from agent_session.live.events import LiveEvent
from agent_session.live.publisher import Live, LivePublisher
from agent_session.live.redis_connection import RedisAddress, redis_address
from agent_session.live.redis_publisher import RedisPublisher
from agent_session.live.redis_watch import watch as watch_redis
from agent_session.live.watch import watch as watch_socket
from agent_session.settings import Settings


class LiveBus(Live, Protocol):
    """Ephemeral events of sessions: never durable, never in the way of a turn."""

    async def run(self) -> None:
        """Carry what is published, until cancelled; comes back by itself whenever the bus was away."""
        ...

    def watch(
        self, session: str, ready: asyncio.Event | None = None, *, replay: bool = False
    ) -> AsyncGenerator[LiveEvent]:
        """Events of one session from now on; with `replay`, what the running turn has shown so far comes first,
        shortened, and joins without a gap. `ready` is set once nothing more can be missed. After DROPPED, and when
        the relay stops, it ends: come again, and read what was missed in the transcript. Errors: OSError where the
        bus is not there, or went away."""
        ...


class SocketBus:
    """Within one machine."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.publisher = LivePublisher(data_dir)

    def publish(self, event: LiveEvent) -> None:
        self.publisher.publish(event)

    async def run(self) -> None:
        await self.publisher.run()

    def watch(
        self, session: str, ready: asyncio.Event | None = None, *, replay: bool = False
    ) -> AsyncGenerator[LiveEvent]:
        return watch_socket(self._data_dir, session, ready, replay=replay)


class RedisBus:
    """Between machines."""

    def __init__(self, settings: Settings, address: RedisAddress) -> None:
        self._settings, self._address = settings, address
        self.publisher = RedisPublisher(settings, address)

    def publish(self, event: LiveEvent) -> None:
        self.publisher.publish(event)

    async def run(self) -> None:
        await self.publisher.run()

    def watch(
        self, session: str, ready: asyncio.Event | None = None, *, replay: bool = False
    ) -> AsyncGenerator[LiveEvent]:
        return watch_redis(self._address, self._settings, session, ready, replay=replay)


def needs_relay(settings: Settings) -> bool:
    """Whether `up` must relay for this bus."""
    return not settings.live.url.get_secret_value()


def live_bus(settings: Settings) -> LiveBus:
    """The bus of these settings. Errors: BadSettings for a `live.url` that cannot be used."""
    if needs_relay(settings):
        return SocketBus(settings.data_dir)
    return RedisBus(settings, redis_address(settings.live.url))

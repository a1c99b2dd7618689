"""What tests of the live bus stand on: a real Redis that can be killed and stopped, and watchers."""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_session.live.bus import LiveBus, RedisBus, live_bus
from agent_session.live.events import DELTA, LiveEvent
from agent_session.live.redis_connection import RedisAddress, redis_address
from agent_session.settings import Settings, load_settings

REDIS = shutil.which("redis-server") or ""
REQUIRED = "AGENT_TESTS_REQUIRE_ALL" in os.environ
PASSWORD = "pass/word#of the server"  # what needs escaping in a URL
ESCAPED = "pass%2Fword%23of%20the%20server"
EARLY_S = 20.0  #: what should come at once


class RedisServer:
    """One server on loopback with a password, in memory only."""

    def __init__(self, folder: Path, *more: str) -> None:
        self._folder, self._more = folder, more
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{ESCAPED}@127.0.0.1:{self.port}/0"

    @property
    def address(self) -> RedisAddress:
        return redis_address(settings_of(self._folder, self.url).live.url)

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            REDIS, "--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--save", "",
            "--appendonly", "no", "--dir", str(self._folder), *self._more, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output = self._process.stdout
        assert output is not None
        async with asyncio.timeout(EARLY_S):
            while b"Ready to accept connections" not in (line := await output.readline()):
                assert line, "redis-server ended"
        self._reading = asyncio.create_task(output.read())  # a full pipe would stop it

    async def kill(self) -> None:
        """As `kill -9`."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """It takes connections and says nothing, while inside."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def ask(self, *command: str | int) -> Any:
        """One command of an administrator."""
        connection = self.address.connection(EARLY_S)
        try:
            return (await connection.call(command))[0]
        finally:
            await connection.close()


@asynccontextmanager
async def running_redis(folder: Path, *more: str) -> AsyncIterator[RedisServer]:
    if not REDIS and not REQUIRED:
        pytest.skip("redis-server is not installed: apt install redis-server")
    assert REDIS, "redis-server is not installed"
    server = RedisServer(folder, *more)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


def settings_of(data_dir: Path, url: str = "", **more: Any) -> Settings:
    return load_settings({"data_dir": data_dir, "live": {"url": url}, **more})


@asynccontextmanager
async def publishing(settings: Settings) -> AsyncIterator[LiveBus]:
    """A worker's bus, connected."""
    bus = live_bus(settings)
    running = asyncio.create_task(bus.run())
    try:
        await connected(bus)
        yield bus
    finally:
        running.cancel()


async def connected(bus: LiveBus) -> None:
    async with asyncio.timeout(EARLY_S):
        if isinstance(bus, RedisBus):
            await bus.publisher.connected.wait()
        else:
            while not bus.publisher.connected:  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)


class Watching:
    """A watcher in the background; `seen` grows until `until` holds of an event, or the stream ends."""

    def __init__(self, bus: LiveBus, session: str, until: Callable[[LiveEvent], bool], *, replay: bool = False) -> None:
        self.seen: list[LiveEvent] = []
        self._ready = asyncio.Event()
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._watch(bus, session, until, replay))
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may ask for it

    async def _watch(self, bus: LiveBus, session: str, until: Callable[[LiveEvent], bool], replay: bool) -> None:
        async with aclosing(bus.watch(session, self._ready, replay=replay)) as events:
            async for event in events:
                self.seen.append(event)
                self._news.set()
                if until(event):
                    return

    async def ready(self) -> "Watching":
        waiting = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({self._task, waiting}, timeout=EARLY_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._task.done():
            await self._task
        assert self._ready.is_set()
        return self

    async def saw(self, holds: Callable[[list[LiveEvent]], bool]) -> None:
        """Wait until something was seen, and this holds of all of it."""
        async with asyncio.timeout(EARLY_S):
            while not (self.seen and holds(self.seen)):
                self._news.clear()
                await self._news.wait()

    async def end(self, timeout_s: float = EARLY_S) -> list[LiveEvent]:
        """All that it saw. Errors: OSError, as the stream ended."""
        await asyncio.wait_for(self._task, timeout_s)
        return self.seen


def delta(session: str, text: str, *, step: int = 1, turn: str = "t-1") -> LiveEvent:
    return LiveEvent(session=session, kind=DELTA, turn=turn, step=step, text=text)


def text_of(events: list[LiveEvent], step: int = 1) -> str:
    return "".join(event.text for event in events if event.kind == DELTA and event.step == step)


def is_kind(*kinds: str) -> Callable[[LiveEvent], bool]:
    return lambda event: event.kind in kinds

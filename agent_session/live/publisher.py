"""A worker's end of the live bus: publish and forget. Without a relay everything is dropped."""

import asyncio
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from agent_session.live.events import LiveEvent, encode
from agent_session.live.socket_path import socket_address

WAITING_EVENTS = 5_000
RECONNECT_S = 1.0


class Live(Protocol):
    """What activities publish to."""

    def publish(self, event: LiveEvent) -> None:
        """Never waits, never fails."""
        ...


class NoLive:
    """Nobody listens."""

    def publish(self, event: LiveEvent) -> None:
        return


class LivePublisher:
    """Sends to the relay of this data directory, whenever there is one."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._waiting: deque[bytes] = deque(maxlen=WAITING_EVENTS)
        self._wake = asyncio.Event()
        self.connected = False

    def publish(self, event: LiveEvent) -> None:
        if self.connected:
            self._waiting.append(encode(event))
            self._wake.set()

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        while True:
            with suppress(OSError):
                await self._send_while_connected()
            self.connected = False
            self._waiting.clear()
            await asyncio.sleep(RECONNECT_S)

    async def _send_while_connected(self) -> None:
        with socket_address(self._data_dir) as address:
            _, writer = await asyncio.open_unix_connection(address)
        try:
            writer.write(b'{"role":"publish"}\n')
            self.connected = True
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    writer.write(self._waiting.popleft())
                await writer.drain()
        finally:
            writer.close()

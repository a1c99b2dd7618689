"""The relay in `up`: whatever a worker publishes goes to everybody who watches that session.

A watcher that does not keep up is dropped with a note; nobody ever waits for one.
"""

import asyncio
import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import orjson

from agent_session.live.events import DROPPED, LiveEvent, decode, encode
from agent_session.live.running import RunningTurns
from agent_session.live.socket_path import SOCKET, socket_address

LINE_BYTES = 256 * 1024
WAITING_EVENTS = 2_000
GREETING_S = 5.0


class LiveHub:
    """Serves `live.sock`."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._watchers: defaultdict[str, set[asyncio.Queue[bytes | None]]] = defaultdict(set)
        self.running = RunningTurns()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Take over whatever a dead process left. Errors: OSError."""
        (self._data_dir / SOCKET).unlink(missing_ok=True)
        with socket_address(self._data_dir) as address:
            before = os.umask(0o177)
            try:
                self._server = await asyncio.start_unix_server(self._serve, address, limit=LINE_BYTES)
            finally:
                os.umask(before)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for queues in list(self._watchers.values()):
            for queue in list(queues):
                with suppress(asyncio.QueueFull):
                    queue.put_nowait(None)
        (self._data_dir / SOCKET).unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            greeting = orjson.loads(await asyncio.wait_for(reader.readline(), GREETING_S))
            if greeting.get("role") == "publish":
                await self._take_in(reader)
            elif greeting.get("role") == "watch":
                replay = greeting.get("replay") is True
                await self._hand_out(str(greeting.get("session", "")), reader, writer, replay)
        except (OSError, ValueError, TimeoutError, AttributeError):
            pass  # a peer that does not speak the protocol, or has gone
        finally:
            writer.close()

    async def _take_in(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            event = decode(line)
            if event is not None:
                self.publish(event)

    def publish(self, event: LiveEvent) -> None:
        """To all watchers of its session, without waiting."""
        self.running.note(event)
        raw = encode(event)
        for queue in list(self._watchers.get(event.session, ())):
            if queue.full():  # too slow: what waits is given up, a note and the end take its place
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(encode(LiveEvent(session=event.session, kind=DROPPED)))
                queue.put_nowait(None)
                self._watchers[event.session].discard(queue)
            else:
                queue.put_nowait(raw)

    async def _hand_out(
        self, session: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replay: bool
    ) -> None:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING_EVENTS)
        self._watchers[session].add(queue)
        gone = asyncio.create_task(reader.read())  # ends when the watcher hangs up
        gone.add_done_callback(lambda _: queue.full() or queue.put_nowait(None))
        writer.write(b"{}\n")  # from here on nothing is missed
        for event in self.running.of(session) if replay else ():
            writer.write(encode(event))
        try:
            while (raw := await queue.get()) is not None:
                writer.write(raw)
                await writer.drain()
        finally:
            gone.cancel()
            self._watchers[session].discard(queue)
            if not self._watchers[session]:
                del self._watchers[session]

"""A worker's end of the live bus over Redis: publish and forget.

Never holds up a turn: what Redis does not take in time is given up. Never hides a hole: watchers of that session are
told (they come again), and what Redis keeps of its turn is forgotten.
"""

import asyncio
from collections import deque

import structlog

from agent_session.live.events import DROPPED, LiveEvent
from agent_session.live.redis_connection import RedisAddress, RedisConnection
from agent_session.live.redis_names import Names, names_of
from agent_session.live.redis_script import load_command, publish_command
from agent_session.settings import Settings

WAITING_EVENTS = 5_000
BATCH = 200  #: events that are sent in one go
SILENCE_S, IDLE_S = 5.0, 5.0  #: how long an answer is waited for; how often an idle connection is tried
RECONNECT_S = 0.1, 5.0  #: each pause is twice the last
REMEMBERED = 10_000  #: sessions of which something was given up

log = structlog.get_logger("agent_session.live")


class RedisPublisher:
    """Sends to Redis, whenever it is there."""

    def __init__(self, settings: Settings, address: RedisAddress) -> None:
        self._settings, self._address = settings, address
        self._waiting: deque[LiveEvent] = deque()
        self._holes: dict[str, None] = {}  #: sessions whose watchers must be told that something is missing
        self._wake = asyncio.Event()
        self._told = False  #: the log knows of this outage
        self.connected = asyncio.Event()

    def publish(self, event: LiveEvent) -> None:
        """Never waits, never fails."""
        if len(self._waiting) >= WAITING_EVENTS:
            self._give_up_what_waits()
        if self.connected.is_set():
            self._waiting.append(event)
            self._wake.set()
        else:
            self._give_up(event)

    def _give_up(self, event: LiveEvent) -> None:
        self._holes[event.session] = None
        if len(self._holes) > REMEMBERED:
            del self._holes[next(iter(self._holes))]

    def _give_up_what_waits(self) -> None:
        while self._waiting:
            self._give_up(self._waiting.popleft())

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        pause, most = RECONNECT_S
        while True:
            try:
                await self._send_while_connected()
            except OSError as error:
                if not self._told:
                    log.warning("live progress is not published; it is tried again and again", error=str(error))
                pause = min(pause * 2, most) if self._told else RECONNECT_S[0]
                self._told = True
            await asyncio.sleep(pause)

    async def _send_while_connected(self) -> None:
        connection = self._address.connection(SILENCE_S)
        try:
            names = await asyncio.to_thread(names_of, self._settings)
            (loaded,) = await connection.call(load_command())
            while self._holes:  # at once: who watches can come again before the next turn
                await self._send(connection, names, loaded)
            self.connected.set()
            while True:
                try:
                    async with asyncio.timeout(IDLE_S):  # wait_for may swallow a cancel
                        await self._wake.wait()
                except TimeoutError:
                    await connection.call(("PING",))
                self._wake.clear()
                while self._holes or self._waiting:
                    await self._send(connection, names, loaded)
        finally:
            self.connected.clear()
            self._give_up_what_waits()
            await connection.close()

    async def _send(self, connection: RedisConnection, names: Names, loaded: bytes) -> None:
        events = [LiveEvent(session=session, kind=DROPPED) for session in list(self._holes)[:BATCH]]
        for event in events:
            del self._holes[event.session]
        while self._waiting and len(events) < BATCH:
            events.append(self._waiting.popleft())
        try:
            await connection.call(*(publish_command(loaded, names.of(one.session), one) for one in events))
        except OSError:
            for event in events:  # some may have come through: sent again, they would come twice
                self._give_up(event)
            raise
        if self._told:
            log.info("live progress is published again")
            self._told = False

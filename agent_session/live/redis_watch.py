"""The watchers' end of the live bus over Redis: one connection for all watchers of this process, opened for the
first, closed after the last.

A watcher that does not keep up is dropped with a note; the connection is read whatever its watchers do. When Redis
goes away all of them end with an OSError: each decides for itself when to come again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator

from agent_session.live.events import DROPPED, LiveEvent
from agent_session.live.redis_connection import RedisAddress, Word
from agent_session.live.redis_names import names_of
from agent_session.live.redis_script import START, Position, kept_command, published, shown_so_far
from agent_session.live.running import WholeTexts
from agent_session.settings import Settings

WAITING_EVENTS = 2_000
SILENCE_S, PING_S = 20.0, 8.0  #: a connection of which nothing is heard for so long is lost; Redis is asked before


async def watch(
    address: RedisAddress, settings: Settings, session: str, ready: asyncio.Event | None, *, replay: bool
) -> AsyncGenerator[LiveEvent]:
    """As `LiveBus.watch`. Errors: RedisAway, also in mid-stream; VolumeUnavailable."""
    name = (await asyncio.to_thread(names_of, settings)).of(session)
    subscriptions = _subscriptions(address)
    inbox = subscriptions.enter(name)
    try:
        await inbox.subscribed
        position, shown, whole = START, list[LiveEvent](), WholeTexts()
        if replay:  # read after the subscription: what comes meanwhile waits in the inbox
            position, shown = await subscriptions.shown_so_far(name, session)
        if ready is not None:
            ready.set()
        for event in filter(whole.shows, shown):
            yield event
        while True:
            at, event = await inbox.next()
            if at <= position or event.session != session:
                continue
            if whole.shows(event) or not replay:
                yield event
            if event.kind == DROPPED:
                return
    finally:
        subscriptions.leave(name, inbox)


class Inbox:
    """What waits for one watcher."""

    def __init__(self) -> None:
        self.subscribed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting: asyncio.Queue[tuple[Position, LiveEvent] | OSError] = asyncio.Queue()

    def put(self, at: Position, event: LiveEvent) -> None:
        """What a watcher does not take in time is given up, with a note in its place."""
        if self._waiting.qsize() >= WAITING_EVENTS:
            while not self._waiting.empty():
                self._waiting.get_nowait()
            event = LiveEvent(session=event.session, kind=DROPPED)
        self._waiting.put_nowait((at, event))

    def end(self, error: OSError) -> None:
        if not self.subscribed.done():
            self.subscribed.set_exception(error)
        self._waiting.put_nowait(error)

    async def next(self) -> tuple[Position, LiveEvent]:
        """Errors: OSError, after the last that came."""
        news = await self._waiting.get()
        if isinstance(news, OSError):
            raise news
        return news


class Subscriptions:
    """The channels that somebody of this process watches, over one connection, until that is lost."""

    def __init__(self, address: RedisAddress, place: tuple[asyncio.AbstractEventLoop, RedisAddress]) -> None:
        self._place = place
        self._connection, self._asking = address.connection(SILENCE_S), address.connection(SILENCE_S)
        self._one_asks = asyncio.Lock()
        self._inboxes: dict[str, set[Inbox]] = {}
        self._unconfirmed: Counter[str] = Counter()
        self._commands: asyncio.Queue[tuple[Word, ...]] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())

    def enter(self, name: str) -> Inbox:
        """An inbox that fills once it is `subscribed`."""
        inbox = Inbox()
        if name not in self._inboxes:
            self._unconfirmed[name] += 1
            self._commands.put_nowait(("SUBSCRIBE", name))
        elif not self._unconfirmed[name]:
            inbox.subscribed.set_result(None)
        self._inboxes.setdefault(name, set()).add(inbox)
        return inbox

    def leave(self, name: str, inbox: Inbox) -> None:
        self._inboxes[name].discard(inbox)
        if not self._inboxes[name]:
            del self._inboxes[name]
            self._commands.put_nowait(("UNSUBSCRIBE", name))
        if not self._inboxes:
            self._forget()
            self._task.cancel()

    async def shown_so_far(self, name: str, session: str) -> tuple[Position, list[LiveEvent]]:
        """Errors: RedisAway."""
        async with self._one_asks:
            try:
                ((place, kept),) = await self._asking.call(kept_command(name))
            except OSError:  # it may have been idle for long, and closed on the way
                ((place, kept),) = await self._asking.call(kept_command(name))
        return await asyncio.to_thread(shown_so_far, session, place, kept)

    async def _run(self) -> None:
        error = OSError("the live events have ended")
        try:
            await self._connection.open()
            async with asyncio.TaskGroup() as both:
                both.create_task(self._send())
                both.create_task(self._receive())
        except* OSError as group:
            error = next(one for one in group.exceptions if isinstance(one, OSError))
        finally:
            self._forget()
            await self._connection.close()
            await self._asking.close()
            for inbox in [inbox for inboxes in self._inboxes.values() for inbox in inboxes]:
                inbox.end(error)

    def _forget(self) -> None:
        """Who comes from now on opens a connection of their own."""
        if _open.get(self._place) is self:
            del _open[self._place]

    async def _send(self) -> None:
        while True:
            try:
                async with asyncio.timeout(PING_S):  # wait_for may swallow a cancel
                    command = await self._commands.get()
            except TimeoutError:
                command = ("PING",)
            await self._connection.send(*command)

    async def _receive(self) -> None:
        while True:
            match await self._connection.receive():
                case [b"message", bytes(channel), bytes(raw)]:
                    self._hand_out(channel.decode(), raw)
                case [b"subscribe", bytes(channel), _]:
                    self._confirm(channel.decode())
                case _:
                    pass  # the answer to a PING or an UNSUBSCRIBE

    def _hand_out(self, name: str, raw: bytes) -> None:
        news = published(raw)
        if news is not None:
            for inbox in self._inboxes.get(name, ()):
                inbox.put(*news)

    def _confirm(self, name: str) -> None:
        """Only the answer to the last request counts: between an earlier one and it, nobody subscribed."""
        self._unconfirmed[name] -= 1
        if self._unconfirmed[name]:
            return
        del self._unconfirmed[name]
        for inbox in self._inboxes.get(name, ()):
            if not inbox.subscribed.done():
                inbox.subscribed.set_result(None)


_open: dict[tuple[asyncio.AbstractEventLoop, RedisAddress], Subscriptions] = {}


def _subscriptions(address: RedisAddress) -> Subscriptions:
    place = (asyncio.get_running_loop(), address)
    if place not in _open:
        _open[place] = Subscriptions(address, place)
    return _open[place]

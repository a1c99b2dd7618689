"""One follower for each session that somebody watches: it reads the transcript once, listens to the live bus
once, and hands both to every watcher as ready frames.

Holds up nobody: a watcher that does not keep up is dropped. Never asks Temporal. Only what is on disk and stands
is told (I5), so a line that was told is never taken back.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from agent_session.gateway.errors import Problem
from agent_session.gateway.followed import Busy, Followed, Told
from agent_session.gateway.metrics import Metrics
from agent_session.gateway.watcher import Watcher, line_frame, live_frame
from agent_session.live.events import DELTA, DROPPED, TOOL_OUTPUT, LiveEvent
from agent_session.live.running import RunningTurns, WholeTexts
from agent_session.transcript.growth import Growth, until_the_next_look
from agent_session.transcript.volume import Volume, VolumeUnavailable
from agent_session.waiting import LOOKING_THREADS

BUSY_S = 0.01  #: between looks while a writer holds the lock
FIRST_LOOK_S = 10.0  #: how long a watcher waits for the transcript's state
STREAMS = 2_000  #: open at a time, of one process
RECONNECT_S = 1.0  #: to the live bus

log = structlog.get_logger("agent_session.gateway")


class Events(Protocol):
    """As `SessionClient.events`."""

    def __call__(self, key: str, *, replay: bool) -> AsyncGenerator[LiveEvent]: ...


class Feed:
    """Of one session."""

    def __init__(self, key: str, followed: Followed, metrics: Metrics) -> None:
        self.key, self._followed, self._metrics = key, followed, metrics
        self.users = 0
        self.seq = 0  #: of the last line that was told, or stood there when the feed began
        self.running = RunningTurns()
        self.news = asyncio.Event()
        self.tasks: tuple[asyncio.Task[None], ...] = ()
        self._watchers: set[Watcher] = set()
        self._ended = False
        self._asking: list[asyncio.Future[None]] = []

    def join(self) -> Watcher:
        """A watcher of everything behind the line `seq`; first of all it gets what the running turn has shown."""
        watcher = Watcher()
        for event in self.running.of(self.key):
            watcher.put(live_frame(event))
        self._watchers.add(watcher)
        if self._ended:
            watcher.end()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    def end(self) -> None:
        """Every watcher's stream ends."""
        self._ended = True
        for watcher in self._watchers:
            watcher.end()

    async def looked(self) -> None:
        """Once `seq` is that of the transcript as it is now, or later. Errors: VolumeUnavailable, Problem."""
        asking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asking.append(asking)
        self.news.set()
        try:
            async with asyncio.timeout(FIRST_LOOK_S):
                await asking
        except TimeoutError:
            raise Problem(503, "transcript_locked", "a writer holds the transcript; try again", None,
                          {"Retry-After": "2"}) from None  # fmt: skip

    async def follow(self, growth: Growth, volume: Volume, threads: ThreadPoolExecutor) -> None:
        """Tell lines as they come, until cancelled."""
        loop, folder, since = asyncio.get_running_loop(), volume.path_of(self.key), time.monotonic()
        while True:
            watched = growth.watch(folder, self.news)
            self.news.clear()
            asking, self._asking = self._asking, []
            try:
                told = await loop.run_in_executor(threads, self._followed.look)
                self._tell_lines(told)
                since = time.monotonic() if told or asking else since
                _answer(asking, None)
            except Busy:
                self._asking += asking
                await asyncio.sleep(BUSY_S)
                continue
            except (OSError, ValueError) as error:  # the volume is away, or a link was planted
                _answer(asking, VolumeUnavailable(str(error)))
            await until_the_next_look(self.news, since, watched=watched)

    async def listen(self, events: Events) -> None:
        """Tell live events as they come, until cancelled; where the bus is away, once it is back."""
        while True:
            replay = not self.running.of(self.key)  # what was shown is not shown again
            whole, heard = WholeTexts(), False
            try:
                async for event in events(self.key, replay=replay):
                    heard = True
                    if event.kind == DROPPED:
                        whole = WholeTexts()  # something is missing: the transcript has it all
                    elif whole.shows(event):
                        self._tell_live(event)
            except Exception as error:  # whatever it is: lines must go on
                log.debug("the live bus cannot be reached", error=str(error)[:300])
            if heard:  # what comes until the bus is back is missed: the transcript has it all
                self._tell(live_frame(LiveEvent(session=self.key, kind=DROPPED)))
            await asyncio.sleep(RECONNECT_S)

    def _tell_lines(self, told: Told) -> None:
        for seq, raw, ended in told:
            self.seq = seq
            if ended and any(event.turn == ended for event in self.running.of(self.key)):
                self.running = RunningTurns()
            self._tell(line_frame(seq, raw))
        self.seq = self._followed.seq

    def _tell_live(self, event: LiveEvent) -> None:
        self.running.note(event)
        self._tell(live_frame(event))
        if event.kind not in (DELTA, TOOL_OUTPUT):
            self.news.set()  # a line may stand there by now

    def _tell(self, frame: bytes) -> None:
        slow = [watcher for watcher in self._watchers if not watcher.put(frame)]
        for watcher in slow:
            self._watchers.discard(watcher)
            self._metrics.dropped.inc()
        if slow:
            log.warning("watchers did not keep up and were dropped", watchers=len(slow))


class Feeds:
    """One a process."""

    def __init__(self, volume: Volume, events: Events, stopping: asyncio.Event, metrics: Metrics) -> None:
        self._volume, self._events, self._stopping, self._metrics = volume, events, stopping, metrics
        self._feeds: dict[str, Feed] = {}
        self._growth = Growth()
        self._threads = ThreadPoolExecutor(LOOKING_THREADS, thread_name_prefix="feeds")
        self._ending: asyncio.Task[None] | None = None
        self._open = 0

    @asynccontextmanager
    async def of(self, key: str) -> AsyncGenerator[Feed]:
        """The session's feed, brought up to date, as long as somebody uses it. Errors: VolumeUnavailable, Problem."""
        if self._stopping.is_set():
            raise Problem(503, "stopping", "this gateway is stopping; come again", None, {"Retry-After": "1"})
        if self._open >= STREAMS:
            raise Problem(429, "too_many_streams", "this gateway has too many open streams; try again", None,
                          {"Retry-After": "5"})  # fmt: skip
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = self._begin(key)
        feed.users += 1
        self._count(1)
        try:
            await feed.looked()
            yield feed
        finally:
            self._count(-1)
            feed.users -= 1
            if not feed.users:
                self._end(feed)

    def _count(self, more: int) -> None:
        self._open += more
        self._metrics.streams.set(self._open)

    def _begin(self, key: str) -> Feed:
        feed = Feed(key, Followed(self._volume, key), self._metrics)
        follow = asyncio.create_task(feed.follow(self._growth, self._volume, self._threads))
        follow.add_done_callback(lambda task: _end_if_failed(task, feed))
        feed.tasks = follow, asyncio.create_task(feed.listen(self._events))
        if self._ending is None:
            self._ending = asyncio.create_task(self._end_when_stopping())
        return feed

    def _end(self, feed: Feed) -> None:
        for task in feed.tasks:
            task.cancel()
        del self._feeds[feed.key]
        self._growth.forget(self._volume.path_of(feed.key))
        if not self._feeds and self._ending is not None:
            self._ending.cancel()
            self._ending = None

    async def _end_when_stopping(self) -> None:
        await self._stopping.wait()
        for feed in self._feeds.values():
            feed.end()


def _end_if_failed(task: "asyncio.Task[None]", feed: Feed) -> None:
    """A stream that would say nothing more ends: its clients come again."""
    if not task.cancelled() and task.exception() is not None:
        log.error("a transcript cannot be followed", exc_info=task.exception())
        feed.end()


def _answer(asking: list["asyncio.Future[None]"], error: Exception | None) -> None:
    for one in asking:
        if one.done():
            continue
        if error is None:
            one.set_result(None)
        else:
            one.set_exception(error)

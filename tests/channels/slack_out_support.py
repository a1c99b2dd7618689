"""What tests of the way out to Slack stand on: a fake Slack, any number of processes, live events."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from agent_session.client import SessionClient
from agent_session.domain.outbound import Outbound
from agent_session.live.bus import live_bus
from agent_session.live.events import DELTA, STEP, TURN_ENDED, TURN_STARTED, LiveEvent
from agent_session.live.hub import LiveHub
from agent_session.live.publisher import LivePublisher
from agent_session.settings import load_settings
from agent_session.settings_channels import SlackSettings
from agent_session.transcript.volume import Volume
from channels.slack.posting import Poster
from channels.slack.streaming import Streamer
from channels.slack.web import web_client
from tests.fakes.slack import BOT, TEAM, FakeSlack

TURN, SESSION, MESSAGE = "t-0123456789abcdef", "main", "00112233aabbccdd"
SETTLE_S = 0.1
FINAL = "Hello **world**, this is the answer."
LOST: dict[str, Any] = {"drop": True, "error": "lost"}  #: a request that never arrives


def reply(text: str, place: str = f"{TEAM}/C1", name: str = TURN, **more: Any) -> Outbound:
    return Outbound(session=SESSION, place=place, reply=name, text=text, **more)


class Workplace:
    """A volume, and processes that share it."""

    def __init__(self, slack: FakeSlack, volume: Volume) -> None:
        self.slack, self.volume = slack, volume
        self.settings = SlackSettings(**slack.settings())
        self.publisher = LivePublisher(volume.root)

    def poster(self, client: SessionClient | None = None, *, settle_s: float = SETTLE_S) -> Poster:
        """Another process."""
        return Poster(web_client(self.settings), self.volume, self.settings, client, settle_s=settle_s)

    def own(self, channel: str, thread: str = "") -> list[dict[str, Any]]:
        """The app's messages there."""
        return [one for one in self.slack.messages(channel, thread) if one.get("bot_id") == BOT]

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """The live bus of the volume, and a worker that publishes."""
        hub = LiveHub(self.volume.root)
        await hub.start()
        running = asyncio.create_task(self.publisher.run())
        try:
            while not self.publisher.connected:
                await asyncio.sleep(0.01)
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await hub.stop()

    @asynccontextmanager
    async def streamer(self, *, poster: Poster | None = None) -> AsyncIterator[Streamer]:
        """A process that shows answers; at the end it dies."""
        client = cast(SessionClient, Watcher(self.volume))
        streamer = Streamer(web_client(self.settings), client, poster or self.poster(), self.settings)
        running = asyncio.create_task(streamer.run())
        try:
            yield streamer
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def tell(self, kind: str, **fields: Any) -> None:
        self.publisher.publish(LiveEvent(session=SESSION, kind=kind, turn=fields.pop("turn", TURN), **fields))

    def begin(self) -> None:
        self.tell(TURN_STARTED, call=MESSAGE)
        self.tell(STEP, step=1)

    def write(self, text: str, step: int = 1) -> None:
        self.tell(DELTA, step=step, text=text)

    def end(self, text: str = "", outcome: str = "answered") -> None:
        self.tell(TURN_ENDED, text=text, outcome=outcome)


class Watcher:
    """The part of a client that needs no Temporal."""

    def __init__(self, volume: Volume) -> None:
        self._bus = live_bus(load_settings({"data_dir": volume.root}))

    def events(
        self, key: str, ready: asyncio.Event | None = None, *, replay: bool = False
    ) -> AsyncGenerator[LiveEvent]:
        return self._bus.watch(key, ready, replay=replay)


class Talk:
    """A message that waits for its answer in some place."""

    def __init__(self, place: Workplace, channel: str, thread: str) -> None:
        self.place, self.channel, self.thread = place, channel, thread
        self.where = "/".join(part for part in (TEAM, channel, thread) if part)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.place.own(self.channel, self.thread)

    @property
    def texts(self) -> list[str]:
        return [str(one["text"]) for one in self.messages]

    async def shown(self, words: str) -> None:
        await self.place.slack.until(lambda: any(words in text for text in self.texts))

    async def deliver(self, text: str = FINAL) -> None:
        await self.place.poster().post(reply(text, self.where))

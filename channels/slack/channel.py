"""The Slack channel: its way in and its way out, put together. Knows no protocol itself.

Opens nothing before it runs, delivers or is tried. A refused token is waited out with a growing pause: whoever
mends it in Slack need not start anything again.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import structlog

from agent_session.client import SessionClient
from agent_session.domain.outbound import Outbound
from agent_session.settings import Settings
from agent_session.transcript.volume import Volume
from channels.base import Capabilities
from channels.slack.places import NAME, SlackPlace

if TYPE_CHECKING:
    from slack_sdk.web.async_client import AsyncWebClient

    from channels.slack.dispatch import Dispatch
    from channels.slack.http import HttpEvents
    from channels.slack.posting import Poster
    from channels.slack.web import Me

LONGEST_PAUSE_S = 300.0
CLIENT_S = 1.0  #: `run` begins with the process: what is to be delivered at once waits for its client

log = structlog.get_logger("agent_session.slack")


class SlackChannel:
    """One app in one workspace; any number of processes."""

    name = NAME
    capabilities = Capabilities(receives=True, delivers=True, streams=True, files=True, posts_files=True, decides=True)

    def __init__(self, settings: Settings, *, ping_s: float | None = None) -> None:
        self._settings, self._ping_s = settings, ping_s
        self._volume = Volume(settings.data_dir)
        self._web: AsyncWebClient | None = None
        self._poster: Poster | None = None
        self._client: SessionClient | None = None
        self._has_client = asyncio.Event()

    async def run(self, client: SessionClient) -> None:
        """Take messages in until cancelled. With an app token over a socket; without one, events come by HTTP to
        whoever serves `http_events`, and there is nothing to listen to here."""
        from channels.slack.sockets import PING_S, Sockets
        from channels.slack.streaming import Streamer

        self._client = client
        self._has_client.set()
        web, app_token = self._web_client(), self._settings.slack.app_token.get_secret_value()
        if not app_token:
            await asyncio.Event().wait()
        streamer = Streamer(web, client, await self._posting(), self._settings.slack)
        dispatch = self._dispatch(client, await self._me(), streamer.expect)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_kept_up("what shows answers while they are written", streamer.run))
            tasks.create_task(Sockets(web, app_token, dispatch.take, ping_s=self._ping_s or PING_S).run())

    def _dispatch(
        self, client: SessionClient, me: "Me", expect: Callable[[str, str, str], None] | None = None
    ) -> "Dispatch":
        """What takes in whatever Slack tells. `expect`: see `Inbound`."""
        from channels.slack.dispatch import Dispatch
        from channels.slack.inbound import Inbound

        return Dispatch(Inbound(self._web_client(), client, me, expect))

    def http_events(self, client: SessionClient) -> "HttpEvents":
        """The handler of what Slack posts to a server that it can reach; the gateway serves it.
        Errors: ValueError without a signing secret."""
        from channels.slack.http import HttpEvents
        from channels.slack.web import who_am_i

        async def connect() -> "Dispatch":
            return self._dispatch(client, await who_am_i(self._web_client()))

        return HttpEvents(connect, self._settings.slack.signing_secret.get_secret_value())

    def check_place(self, place: str) -> None:
        SlackPlace.parse(place)

    async def deliver(self, out: Outbound) -> None:
        self.check_place(out.place)
        poster = await self._posting()
        await poster.post(out)

    async def probe(self) -> str:
        from channels.slack import configured
        from channels.slack.probe import probe

        return configured(self._settings) or await probe(self._web_client(), self._settings.slack, self._volume)

    def _web_client(self) -> "AsyncWebClient":
        from channels.slack.web import web_client

        if self._web is None:
            self._web = web_client(self._settings.slack)
        return self._web

    async def _posting(self) -> "Poster":
        from channels.slack.posting import Poster

        if self._poster is None:
            client = await self._session_client()
            self._poster = self._poster or Poster(self._web_client(), self._volume, self._settings.slack, client)
        return self._poster

    async def _session_client(self) -> SessionClient:
        """The one that `run` was given; without `run`, one of our own."""
        try:
            async with asyncio.timeout(CLIENT_S):
                await self._has_client.wait()
        except TimeoutError:
            self._client = await SessionClient.connect(self._settings, channel=NAME, principal=NAME)
            self._client.grants = ()
            self._has_client.set()
        assert self._client is not None
        return self._client

    async def _me(self) -> "Me":
        """Who we are, however long Slack does not say."""
        from aiohttp import ClientError
        from slack_sdk.errors import SlackClientError

        from channels.slack.web import TokenRefused, who_am_i

        pause = 1.0
        while True:
            try:
                return await who_am_i(self._web_client())
            except TokenRefused as error:
                log.error("Slack refuses us", reason=str(error), again_in_s=round(pause))
            except (SlackClientError, ClientError, OSError, TimeoutError) as error:
                log.warning("Slack does not say who we are", error=type(error).__name__, again_in_s=round(pause))
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, LONGEST_PAUSE_S)


async def _kept_up(what: str, work: Callable[[], Awaitable[None]]) -> None:
    """Progress is decorative: when it breaks, messages still come in."""
    pause = 1.0
    while True:
        try:
            await work()
            return
        except Exception as error:
            log.warning("stopped, and begins again", what=what, error=f"{type(error).__name__}: {str(error)[:200]}")
        await asyncio.sleep(pause)
        pause = min(pause * 2, 60.0)

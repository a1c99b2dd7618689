"""The self-test: does Slack take both tokens, has it granted what we ask, and does a message go there and back?

A message is posted to the first owner's direct messages, or else to the first allowed channel, read back, waited for
as the event that Slack tells us of it, and taken away. The process that runs says that it heard it (`heard.py`),
over its socket or by HTTP. Only when none does, a socket is opened here: beside one that runs it would take
presses and commands away from it, which Slack tells once. What else it is told is not acknowledged, so that Slack
tells it again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import orjson
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from agent_session.settings_channels import SlackSettings
from agent_session.transcript.volume import Volume
from channels.slack.events import mapping
from channels.slack.heard import WORDS, was_heard
from channels.slack.sockets import open_socket_url
from channels.slack.web import TokenRefused, error_of, who_am_i

PROBE_S = 20.0
HEARD_S = 3.0  #: for a running process to hear of the message: Slack tells within a second
LOOK_S = 0.1
REINSTALL = "has the app the events of docs/channels/slack-manifest.yaml (App Manifest, then Reinstall the app)?"
DEAF = f"Slack told nobody of it, so nothing comes in: {REINSTALL}"
DEAF_BY_HTTP = (
    "it was not seen to come in: no process of this data directory heard of it. Is the gateway running, and are its "
    f"addresses .../channels/slack/events the request URLs of the app? And {REINSTALL}"
)


async def probe(web: AsyncWebClient, settings: SlackSettings, volume: Volume) -> str:
    """Empty, or what is wrong and what to do."""
    try:
        async with asyncio.timeout(PROBE_S):
            me = await who_am_i(web)
            return me.lacking or await _there_and_back(web, settings, volume)
    except TokenRefused as error:
        return str(error)
    except SlackApiError as error:
        return f"Slack refused {_method(error)}: {error_of(error)}"
    except TimeoutError:
        return f"Slack did not answer within {PROBE_S:.0f} s: is {settings.api_url} reachable from here?"
    except (OSError, aiohttp.ClientError) as error:
        return f"{settings.api_url} cannot be reached ({type(error).__name__}): check slack.api_url and the network"


def _method(error: SlackApiError) -> str:
    answer: Any = error.response
    return str(getattr(answer, "api_url", "a call")).rpartition("/")[2]


async def _there_and_back(web: AsyncWebClient, settings: SlackSettings, volume: Volume) -> str:
    channel = await _where(web, settings)
    if not channel:
        return "there is nowhere to post a test: set slack.owners, or slack.allowed_channels"
    app_token = settings.app_token.get_secret_value()
    url = await open_socket_url(web, app_token) if app_token else ""  # a token that is refused is said at once

    async def told_to_a_process(ts: str) -> bool:
        return await asyncio.to_thread(was_heard, volume, ts)

    stands, heard = await _sent(web, channel, told_to_a_process)
    if stands and not heard and url:
        async with aiohttp.ClientSession() as session, session.ws_connect(url, proxy=web.proxy) as socket:
            ours = _Listener(socket)
            await ours.begin()

            async def told_to_anybody(ts: str) -> bool:
                return ts in ours.heard or await told_to_a_process(ts)

            stands, heard = await _sent(web, channel, told_to_anybody)
            await ours.end()
    if not stands:
        return f"a message was posted to {channel}, but does not stand there"
    return "" if heard else f"a message was posted to {channel} and stands there, but {DEAF if url else DEAF_BY_HTTP}"


async def _where(web: AsyncWebClient, settings: SlackSettings) -> str:
    if settings.owners:
        answer: Any = await web.conversations_open(users=settings.owners[0])
        return str(answer["channel"]["id"])
    return settings.allowed_channels[0] if settings.allowed_channels else ""


async def _sent(web: AsyncWebClient, channel: str, hears: Callable[[str], Awaitable[bool]]) -> tuple[bool, bool]:
    """Post, read back, wait until it is heard, and take it away: whether it stood there, and was heard."""
    posted: Any = await web.chat_postMessage(channel=channel, text=WORDS)
    ts, heard = str(posted["ts"]), False
    try:
        found: Any = await web.conversations_history(channel=channel, oldest=ts, inclusive=True, limit=1)
        stands = any(one.get("ts") == ts for one in found["messages"])
        until = time.monotonic() + HEARD_S
        while stands and not (heard := await hears(ts)) and time.monotonic() < until:
            await asyncio.sleep(LOOK_S)
    finally:
        await web.chat_delete(channel=channel, ts=ts)
    return stands, heard


class _Listener:
    """A socket of the probe's own."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.heard: set[str] = set()
        self._socket = socket
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Errors: ClientError, when Slack says no hello."""
        hello = await self._socket.receive()
        if hello.type != aiohttp.WSMsgType.TEXT or mapping(orjson.loads(hello.data)).get("type") != "hello":
            raise aiohttp.ClientError("no hello")
        self._task = asyncio.create_task(self._listen())

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        async for frame in self._socket:
            if frame.type != aiohttp.WSMsgType.TEXT:
                continue
            envelope = mapping(orjson.loads(frame.data))
            event = mapping(mapping(envelope.get("payload")).get("event"))
            if event.get("text") == WORDS:
                self.heard.add(str(event.get("ts")))
                await self._socket.send_json({"envelope_id": envelope.get("envelope_id")})

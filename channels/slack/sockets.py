"""Socket Mode: a connection that Slack tells us everything over, kept up for as long as the process lives.

An envelope is acknowledged only when what handles it has returned; when it fails, Slack delivers again, to this
replica or another. Slack's own client reconnects by itself; what it does not get over (a refused token, an
address that has become stale) is mended here with a new one, ever more slowly.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import aiohttp
import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient

from channels.slack.events import Json, mapping
from channels.slack.web import TokenRefused, error_of, quiet, refusal, words_of

PING_S = 5.0  #: between two signs of life; a cut connection is noticed within that time
DOWN_S = 30.0  #: longer without a connection: begin anew
FIRST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_REFUSED_S = 1.0, 30.0, 300.0

Take = Callable[[str, Json, int], Awaitable[Json | None]]

log = structlog.get_logger("agent_session.slack")


async def open_socket_url(web: AsyncWebClient, app_token: str) -> str:
    """An address for one connection. Errors: TokenRefused; whatever breaks on the way."""
    try:
        answer: Any = await web.apps_connections_open(app_token=app_token)
    except SlackApiError as error:
        raise refusal("app_token", error) from None
    return str(answer["url"])


class Sockets:
    """One process's connection. `take(kind, payload, attempt)` returns what goes with the acknowledgement; an
    error means that it was not accepted."""

    def __init__(self, web: AsyncWebClient, app_token: str, take: Take, *, ping_s: float = PING_S) -> None:
        self._web, self._app_token, self._take, self._ping_s = web, app_token, take, ping_s
        self._pause = FIRST_PAUSE_S

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            url = await self._url()
            client = SocketModeClient(
                self._app_token, logger=quiet, web_client=self._web, proxy=self._web.proxy, ping_interval=self._ping_s
            )  # fmt: skip
            client.proxy = self._web.proxy
            client.wss_uri = url
            client.socket_mode_request_listeners.append(self._handle)
            connecting = asyncio.create_task(client.connect())
            try:
                await self._until_down(client)
            finally:
                connecting.cancel()
                await _close(client)
            log.warning("Slack's connection did not come back by itself; beginning anew")

    async def _url(self) -> str:
        """An address to connect to, however long Slack has none for us."""
        while True:
            longest = LONGEST_PAUSE_S
            try:
                return await open_socket_url(self._web, self._app_token)
            except TokenRefused as error:
                longest = LONGEST_REFUSED_S
                log.error("Slack refuses to connect", reason=str(error), again_in_s=round(self._pause))
            except SlackApiError as error:
                log.warning("Slack gives no connection", error=error_of(error), again_in_s=round(self._pause))
            except (OSError, TimeoutError, aiohttp.ClientError) as error:
                log.warning("Slack cannot be reached", error=type(error).__name__, again_in_s=round(self._pause))
            await asyncio.sleep(self._pause * random.uniform(0.8, 1.2))
            self._pause = min(self._pause * 2, longest)

    async def _until_down(self, client: SocketModeClient) -> None:
        """Returns when there has been no connection for too long."""
        seen = time.monotonic()
        while time.monotonic() - seen < DOWN_S:
            if await client.is_connected():
                if self._pause != FIRST_PAUSE_S:
                    log.info("connected to Slack again")
                seen, self._pause = time.monotonic(), FIRST_PAUSE_S
            await asyncio.sleep(min(1.0, self._ping_s))

    async def _handle(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        try:
            answer = await self._take(request.type, mapping(cast(Any, request).payload), request.retry_attempt or 0)
        except Exception as error:  # whatever it is: not accepted, so not acknowledged
            log.warning(
                "not accepted, so Slack delivers it again",
                kind=request.type,
                attempt=request.retry_attempt or 0,
                error=words_of(error),
            )
            return
        await client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id, payload=answer))


async def _close(client: SocketModeClient) -> None:
    try:
        async with asyncio.timeout(2):
            await client.close()
    except Exception as error:
        log.debug("a connection did not close well", error=type(error).__name__)

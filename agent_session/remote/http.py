"""HTTP to one gateway: requests with the token, streams, and what failed in words.

The token goes into a header, to that gateway's URL alone: redirects are not followed, proxies of the environment are
not used. Knows no operation of the API.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar, cast

import aiohttp
import orjson
from yarl import URL

from agent_session import __version__
from agent_session.remote.errors import (
    GatewayBusy,
    GatewayUnreachable,
    NotAGateway,
    NotTrusted,
    pause_asked,
    problem_of,
)
from agent_session.remote.sse import COMMENT, EventParser, ServerEvent
from agent_session.remote.target import Target

CONNECT_S, ANSWER_S = 10.0, 30.0
SILENT_S = 45.0  #: a stream says something every 15 s
FIRST_CONTACT_S = 5.0  #: how long a gateway that has never answered is tried: its URL may be wrong
NOW = ServerEvent(COMMENT, b"now")  #: what the gateway says once it hands on all that happens
PAUSE_S = 0.2, 3.0  #: first and longest, between tries
T = TypeVar("T")


class GatewayHttp:
    """Requests to one gateway. Safe to share between tasks."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._session: aiohttp.ClientSession | None = None
        self._answered = False  #: it has been there at least once

    async def __aenter__(self) -> Self:
        pin = self._target.fingerprint
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=aiohttp.Fingerprint(pin) if pin else True, limit=0),
            headers={"Authorization": f"Bearer {self._target.token}", "User-Agent": f"agent-session/{__version__}"},
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(
        self, method: str, path: str, *, timeout_s: float = ANSWER_S, **how: Any
    ) -> tuple[int, dict[str, Any]]:
        """One request; its status and JSON. Errors: GatewayUnreachable and the others of `remote.errors`; those of
        `SessionClient` where the gateway says so; ValueError for what it does not take."""
        async with self._request(method, path, aiohttp.ClientTimeout(total=timeout_s), **how) as response:
            return response.status, _json(await response.read(), self._target.url)

    async def stream(
        self, path: str, ready: asyncio.Event | None = None, *, after: str = ""
    ) -> AsyncGenerator[ServerEvent]:
        """Server-sent events until the gateway ends them. `after`: the id behind which they go on. `ready` is
        set once nothing more can be missed. Errors: as `call`; GatewayUnreachable when the connection breaks."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENT_S)
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        async with self._request("GET", path, timeout, headers=headers) as response:
            parser = EventParser()
            async for piece in response.content.iter_any():
                for event in parser.feed(piece):
                    if event == NOW and ready is not None:
                        ready.set()
                    if event.kind != COMMENT:
                        yield event

    async def persist(self, work: Callable[[], Awaitable[T]], timeout_s: float) -> T:
        """Do it again while the gateway, or what stands behind it, is away for a moment: for what may be done twice.
        Errors: those of `work`; the last one after `timeout_s`, or after 5 s where no gateway has ever answered."""
        began, pause = time.monotonic(), PAUSE_S[0]
        while True:
            try:
                return await work()
            except (GatewayUnreachable, GatewayBusy) as error:
                wait = max(pause, pause_asked(error))
                patience = timeout_s if self._answered else min(timeout_s, FIRST_CONTACT_S)
                if time.monotonic() + wait > began + patience:
                    raise
            await asyncio.sleep(wait)
            pause = min(pause * 2, PAUSE_S[1])

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, timeout: aiohttp.ClientTimeout, **how: Any
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        assert self._session is not None, "used outside of `async with`"
        url = self._target.url
        try:
            async with self._session.request(
                method, URL(url + path, encoded=True), allow_redirects=False, timeout=timeout, **how
            ) as response:
                self._answered = True
                if response.status >= 300:
                    raise problem_of(
                        response.status, response.headers, _loads(await response.read()), url, self._target.source
                    )
                yield response
        except aiohttp.ServerFingerprintMismatch as error:
            raise NotTrusted(
                f"{url} shows a certificate with the sha256 {error.got.hex()}, which is not gateway.tls_fingerprint\n"
                "  if the certificate was renewed, ask whoever runs the gateway for its fingerprint, and set that"
            ) from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise NotTrusted(
                f"the certificate of {url} cannot be verified: {error.certificate_error}\n"
                "  if it is the gateway's own, set gateway.tls_fingerprint to its sha256"
            ) from None
        except aiohttp.ClientSSLError as error:
            raise NotTrusted(f"{url} cannot be spoken to with TLS: {error.strerror or 'no handshake'}") from None
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise GatewayUnreachable(
                f"the gateway at {url} cannot be reached ({_words(error)}): check the URL, or start it"
            ) from None


def _loads(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def _json(raw: bytes, url: str) -> dict[str, Any]:
    """Errors: NotAGateway."""
    found = _loads(raw)
    if not isinstance(found, dict):
        raise NotAGateway(f"{url} answers, but not as a gateway does: check the URL")
    return cast(dict[str, Any], found)


def _words(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.os_error.strerror or str(error.os_error) or "no connection"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return "it closed the connection"

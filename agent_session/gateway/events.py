"""Server-sent events of a session: the transcript's lines, durable, and live events between them.

Past and now are joined without a gap: past lines are read from the file up to where the session's feed stands, and
the watcher is added in the same step of the event loop. Costs Temporal nothing.
"""

import asyncio
import time

import structlog
from aiohttp import web
from pydantic import Field

from agent_session.gateway.access import READ
from agent_session.gateway.entry import admit
from agent_session.gateway.errors import Problem
from agent_session.gateway.feed import Feed
from agent_session.gateway.history import page_on
from agent_session.gateway.route import EVENTS, Answer, Call, Route, Strict
from agent_session.gateway.state import Gateway
from agent_session.gateway.watcher import line_frame
from agent_session.transcript.lines import decode

KEEP_ALIVE_S = 15.0
WRITE_S = 30.0  #: a client that takes nothing for so long is given up
PAST_LINES = 500  #: read at a time
RETRY_MS = 1_000
KEEP_ALIVE = b": keep-alive\n\n"

log = structlog.get_logger("agent_session.gateway")


class After(Strict):
    after: int | None = Field(default=None, ge=0, description="Lines behind the one with this seq come first.")


async def events(gateway: Gateway, call: Call) -> web.StreamResponse:
    after = _after(call)
    async with gateway.feeds.of(call.key) as feed:
        response = web.StreamResponse(headers={"X-Accel-Buffering": "no"})
        response.content_type, response.charset = EVENTS, "utf-8"
        try:
            await response.prepare(call.request)
            await Stream(gateway, call, feed, response).run(after)
        except ConnectionError:
            pass  # the client has left
        except (OSError, TimeoutError) as error:  # the volume went away, or the client takes nothing any more
            log.warning("a stream was given up", request_id=call.id, error=str(error) or type(error).__name__)
            _hang_up(call.request)
        return response


class Stream:
    """What one client is sent."""

    def __init__(self, gateway: Gateway, call: Call, feed: Feed, response: web.StreamResponse) -> None:
        self._gateway, self._call, self._feed, self._response = gateway, call, feed, response

    async def run(self, after: int | None) -> None:
        """Until the gateway stops, the token is no longer valid, or the client does not keep up. Errors:
        ConnectionError, TimeoutError, OSError."""
        at = self._feed.seq if after is None else after
        await self._write(b"retry: %d\nid: %d\n\n" % (RETRY_MS, at))  # so that a first reconnect has an id, too
        while at < self._feed.seq:
            sent = await self._send_past(at)
            if not sent:
                break  # an older copy of the transcript was restored
            at = sent
        watcher = self._feed.join()  # no await since `seq` was compared: nothing comes between
        try:
            await self._write(b": now\n\n")
            admitted = time.monotonic()
            while (chunk := await watcher.take(KEEP_ALIVE_S)) is not None:
                await self._write(chunk or KEEP_ALIVE)
                if time.monotonic() - admitted >= KEEP_ALIVE_S:
                    admitted = time.monotonic()
                    if not self._still_admitted():
                        return
        finally:
            self._feed.leave(watcher)

    async def _send_past(self, at: int) -> int:
        """The next lines that stand; returns the `seq` of the last one, 0 when there was none."""
        try:
            page = await asyncio.to_thread(page_on, self._gateway.volume, self._call.key, at, PAST_LINES)
        except FileNotFoundError:
            return 0
        last, frames = 0, bytearray()
        for raw in page.lines:
            line = decode(raw)
            if line is None or line["seq"] > self._feed.seq:
                break  # not known to stand yet: the feed will tell it
            last = int(line["seq"])
            frames += line_frame(last, raw)
        await self._write(bytes(frames))
        return last

    def _still_admitted(self) -> bool:
        """A token that was withdrawn sees nothing more."""
        try:
            return admit(self._gateway, self._call.request, READ).reaches(self._call.key)
        except Problem:
            return False

    async def _write(self, data: bytes) -> None:
        if data:
            async with asyncio.timeout(WRITE_S):
                await self._response.write(data)


def _after(call: Call) -> int | None:
    """`Last-Event-ID` goes before `?after=`: a browser that reconnects repeats the latter."""
    given = call.header("Last-Event-ID").strip()
    if not given:
        return call.query.after
    if not (given.isascii() and given.isdigit() and len(given) <= 18):
        raise Problem(400, "invalid_field", "Last-Event-ID must be the seq of a line, as in 'id:'", "Last-Event-ID")
    return int(given)


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/sessions/{key}/events",
        handler=events,
        summary="What happens in a session, as server-sent events",
        scope=READ,
        query=After,
        headers={"Last-Event-ID": "seq of the last line that was seen; goes before `after`."},
        answers={200: Answer(about="Events: line (with its seq as id), live, dropped", content=EVENTS)},
        problems=(503,),
    ),
)

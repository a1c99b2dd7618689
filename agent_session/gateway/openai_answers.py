"""Answering a request of OpenAI's protocol, whole or as a stream, in the shape of its endpoint.

A client that goes away stops nothing: the turn runs on, and the same request again gets its answer.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

import orjson
import structlog
from aiohttp import web

from agent_session.gateway.errors import Problem, problem_of
from agent_session.gateway.events import KEEP_ALIVE, KEEP_ALIVE_S, WRITE_S
from agent_session.gateway.openai_bodies import Words
from agent_session.gateway.openai_names import Place
from agent_session.gateway.openai_turn import SHOULD_RETRY, Answer, Beat, Piece, answer_to
from agent_session.gateway.route import Call
from agent_session.gateway.state import Gateway

GONE = 499  #: for the log alone: nobody is there to read it

log = structlog.get_logger("agent_session.gateway")
Sent = tuple[str, dict[str, Any]]  #: an event's name, or none, and its data


class ClientGone(Exception):
    """Nobody is there any more to read the answer."""


class Shape(Protocol):
    """How an endpoint writes an answer down."""

    last: bytes  #: what ends a stream that went well

    def whole(self, answer: Answer) -> dict[str, Any]: ...
    def opening(self) -> Iterable[Sent]: ...
    def piece(self, text: str) -> Iterable[Sent]: ...
    def closing(self, answer: Answer) -> Iterable[Sent]: ...
    def failed(self, problem: Problem, request_id: str) -> Iterable[Sent]: ...


async def answer_with(
    shape: Shape, gateway: Gateway, call: Call, place: Place, words: Words, *, stream: bool
) -> web.StreamResponse:
    """Errors: those of `answer_to`, as long as nothing of a stream was sent; behind that they are part of it."""
    gateway.openai.handed_over.note(place.scoped, False)  # until it is, whatever ends this request
    async with aclosing(answer_to(gateway, call.client, place, words, live=stream)) as progress:
        try:
            if stream:
                return await _stream(shape, call, progress, gateway, place)
            return await _whole(shape, call, progress, gateway, place)
        except ClientGone:
            return web.Response(status=GONE)
        except Problem as problem:
            _note_final(gateway, place, problem)
            raise


def _note_final(gateway: Gateway, place: Place, problem: Problem) -> None:
    """How a turn ended is an answer, too: the same words again are said anew."""
    if problem.headers.get(SHOULD_RETRY) == "false":
        gateway.openai.handed_over.note(place.scoped, True)


async def _whole(
    shape: Shape, call: Call, progress: AsyncGenerator[Beat | Piece | Answer], gateway: Gateway, place: Place
) -> web.StreamResponse:
    async for item in progress:
        _still_there(call.request)
        if isinstance(item, Answer):
            response = web.json_response(shape.whole(item))
            with _to_the_client():
                await response.prepare(call.request)
                await response.write_eof()
            gateway.openai.handed_over.note(place.scoped, not item.waits)
            return response
    raise AssertionError("an answer ends with itself")


async def _stream(
    shape: Shape, call: Call, progress: AsyncGenerator[Beat | Piece | Answer], gateway: Gateway, place: Place
) -> web.StreamResponse:
    first = await anext(progress)  # what is refused at once is refused with a status of its own
    out = Events(call.request)
    await out.open()
    try:
        await out.send(shape.opening())
        await _step(shape, out, first)
        item = first
        while not isinstance(item, Answer):
            item = await anext(progress)
            await _step(shape, out, item)
        await out.end(shape.last)
        gateway.openai.handed_over.note(place.scoped, not item.waits)
    except ClientGone:
        raise
    except Exception as error:
        problem = problem_of(error)
        if problem.status == 500:
            log.exception("a stream failed", request_id=call.id)
        await out.send(shape.failed(problem, call.id))
        await out.end(b"")
        _note_final(gateway, place, problem)
    return out.response


async def _step(shape: Shape, out: "Events", item: Beat | Piece | Answer) -> None:
    if isinstance(item, Piece):
        await out.send(shape.piece(item.text))
    elif isinstance(item, Answer):
        await out.send(shape.closing(item))
    else:
        await out.beat()


class Events:
    """A stream of server-sent events. Errors: ClientGone."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        self._wrote = time.monotonic()

    async def open(self) -> None:
        with _to_the_client():
            await self.response.prepare(self._request)

    async def send(self, events: Iterable[Sent]) -> None:
        for name, data in events:
            head = f"event: {name}\n".encode() if name else b""
            await self._write(head + b"data: " + orjson.dumps(data) + b"\n\n")

    async def beat(self) -> None:
        _still_there(self._request)
        if time.monotonic() - self._wrote >= KEEP_ALIVE_S:
            await self._write(KEEP_ALIVE)

    async def end(self, last: bytes) -> None:
        if last:
            await self._write(last)
        with _to_the_client():
            await self.response.write_eof()

    async def _write(self, data: bytes) -> None:
        self._wrote = time.monotonic()
        with _to_the_client():
            async with asyncio.timeout(WRITE_S):
                await self.response.write(data)


def _still_there(request: web.Request) -> None:
    """Errors: ClientGone."""
    if request.transport is None or request.transport.is_closing():
        raise ClientGone


@contextmanager
def _to_the_client() -> Generator[None]:
    """A connection that breaks here is the client's, and no other one."""
    try:
        yield
    except (ConnectionError, TimeoutError) as error:
        raise ClientGone from error

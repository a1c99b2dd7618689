"""A transcript over HTTP, in pages, its lines as they stand in the file.

Lines are found by their `seq`, by halving the file: what a page costs does not depend on where it lies.
"""

import asyncio
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic import Field
from temporalio.service import RPCError, RPCStatusCode

from agent_session.client_types import NoSuchSession
from agent_session.domain.ids import workflow_id
from agent_session.gateway.access import READ
from agent_session.gateway.errors import Problem
from agent_session.gateway.route import JSON, Answer, Call, Route, Strict, Tolerant
from agent_session.gateway.state import Gateway
from agent_session.transcript.index import lines_backwards, lines_forward
from agent_session.transcript.lines import decode
from agent_session.transcript.reader import opened
from agent_session.transcript.volume import Volume, VolumeUnavailable

PAGE_LINES, MOST_LINES = 100, 1_000
PAGE_BYTES = 8 * 1024 * 1024  #: a page ends before it is larger, but holds one line at least


@dataclass(frozen=True)
class Page:
    """Lines in their order, raw, without the newline. `more`: there are others on the side it was read towards."""

    lines: tuple[bytes, ...] = ()
    first: int = 0  #: `seq`, 0 when there is none
    last: int = 0
    more: bool = False


def page_back(volume: Volume, key: str, before: int | None, limit: int) -> Page:
    """The last lines, or the last ones before the line `before`. Errors: FileNotFoundError, VolumeUnavailable."""
    with opened(volume, key) as descriptor:
        size = os.fstat(descriptor).st_size
        end = size if before is None else _offset_behind(descriptor, size, before - 1)
        return _page((raw for _, raw in lines_backwards(descriptor, end)), limit, backwards=True)


def page_on(volume: Volume, key: str, after: int, limit: int) -> Page:
    """The first lines behind the line `after`. Errors: FileNotFoundError, VolumeUnavailable."""
    with opened(volume, key) as descriptor:
        size = os.fstat(descriptor).st_size
        start = _offset_behind(descriptor, size, after)
        return _page((raw for _, raw in lines_forward(descriptor, start, size)), limit, backwards=False)


def _page(found: Iterable[bytes], limit: int, *, backwards: bool) -> Page:
    kept: list[tuple[int, bytes]] = []
    spent = 0
    more = False
    for raw in found:
        line = decode(raw)
        if line is None:
            continue
        if more := len(kept) >= limit or (bool(kept) and spent + len(raw) > PAGE_BYTES):
            break
        kept.append((int(line["seq"]), raw.rstrip(b"\n")))
        spent += len(raw)
    if backwards:
        kept.reverse()
    if not kept:
        return Page()
    return Page(tuple(raw for _, raw in kept), kept[0][0], kept[-1][0], more)


def _offset_behind(descriptor: int, size: int, seq: int) -> int:
    """Where the first line begins whose `seq` is greater; lines without one may stand before it."""
    low, high = 0, size  # no line that begins before `low` is greater, every one that begins at `high` or behind is
    while low < high:
        middle = (low + high) // 2
        found = next(_numbered(descriptor, middle, high), None)
        if found is None or found[0] > seq:
            high = middle
        else:
            low = found[1]
    return low


def _numbered(descriptor: int, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Of each whole line that begins in this part of the file: its `seq`, and where the next one begins."""
    if start:  # to the beginning of a line, which may be here
        first = next(lines_forward(descriptor, start - 1, os.fstat(descriptor).st_size), None)
        if first is None:
            return
        start = first[0]
    for behind, raw in lines_forward(descriptor, start, os.fstat(descriptor).st_size):
        if behind - len(raw) >= end:
            return
        line = decode(raw)
        if line is not None:
            yield int(line["seq"]), behind


class Pages(Strict):
    before: int | None = Field(default=None, ge=1, description="Lines before the one with this seq, from the end.")
    after: int | None = Field(default=None, ge=0, description="Lines behind the one with this seq, forward.")
    limit: int = Field(default=PAGE_LINES, ge=1, le=MOST_LINES, description="Lines of a page, at most.")


class PageAnswer(Tolerant):
    lines: list[dict[str, Any]] = Field(description="As docs/history-format.md describes them, oldest first.")
    first: int = Field(description="seq of the first of them; 0 when there is none.")
    last: int = Field(description="seq of the last of them; 0 when there is none.")
    more: bool = Field(description="Whether there are more: older ones, or with `after` newer ones.")


async def history(gateway: Gateway, call: Call) -> web.StreamResponse:
    asked: Pages = call.query
    if asked.before is not None and asked.after is not None:
        raise Problem(400, "invalid_field", "before and after cannot both be given: choose a direction", "before")
    try:
        if asked.after is not None:
            found = await asyncio.to_thread(page_on, gateway.volume, call.key, asked.after, asked.limit)
        else:
            found = await asyncio.to_thread(page_back, gateway.volume, call.key, asked.before, asked.limit)
    except FileNotFoundError:
        await _lives(gateway, call.key)
        found = Page()
    except OSError as error:
        raise VolumeUnavailable(str(error)) from error
    numbers = f'],"first":{found.first},"last":{found.last},"more":{"true" if found.more else "false"}}}'
    return web.Response(body=b'{"lines":[' + b",".join(found.lines) + numbers.encode(), content_type=JSON)


async def _lives(gateway: Gateway, key: str) -> None:
    """It may have begun just now, and have no line yet. Errors: NoSuchSession."""
    try:
        await gateway.temporal.get_workflow_handle(workflow_id(key)).describe()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            raise NoSuchSession(f"there is no session {key!r}") from None
        raise


ROUTES = (
    Route(
        method="GET",
        path="/v1/sessions/{key}/messages",
        handler=history,
        summary="A session's transcript, in pages",
        scope=READ,
        query=Pages,
        answers={200: Answer(about="Lines of the transcript", body=PageAnswer)},
        problems=(404,),
    ),
)

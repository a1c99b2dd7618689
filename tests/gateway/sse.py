"""A client of server-sent events, for tests: as the standard says, and nothing more."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp

from agent_session.transcript.lines import event_line
from agent_session.transcript.log import TranscriptLog
from tests.gateway.support import Door


@dataclass
class Event:
    kind: str
    data: Any
    id: str


@dataclass
class Stream:
    """`seen`: every event so far. `last_id` is what a browser would send as Last-Event-ID."""

    response: aiohttp.ClientResponse
    seen: list[Event] = field(default_factory=lambda: list[Event]())
    last_id: str = ""
    comments: list[str] = field(default_factory=lambda: list[str]())

    async def next(self) -> Event | None:
        """The next event; None at the end of the stream."""
        kind, data = "message", list[str]()
        while raw := await self.response.content.readline():
            line = raw.decode().rstrip("\n")
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line == "" and data:
                event = Event(kind, json.loads("\n".join(data)), self.last_id)
                self.seen.append(event)
                return event
            if line == "":
                kind = "message"
            elif name == "":
                self.comments.append(value)
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif name == "id":
                self.last_id = value
        return None

    async def until(self, enough: Callable[["Stream"], bool], timeout_s: float = 30) -> "Stream":
        async with asyncio.timeout(timeout_s):
            while not enough(self):
                if await self.next() is None:
                    break
        return self

    @property
    def lines(self) -> list[int]:
        """`seq` of every line that came."""
        return [int(event.id) for event in self.seen if event.kind == "line"]

    def live(self, kind: str = "") -> list[dict[str, Any]]:
        found = [event.data for event in self.seen if event.kind == "live"]
        return [one for one in found if kind in ("", one["kind"])]


@asynccontextmanager
async def watching(
    door: Door, key: str, query: str = "", *, headers: Mapping[str, str] | None = None, token: str | None = None
) -> AsyncIterator[Stream]:
    """An open stream whose first bytes have come."""
    own = {"Authorization": f"Bearer {door.token if token is None else token}"}
    url = f"{door.url}/v1/sessions/{quote(key, safe='')}/events{query}"
    timeout = aiohttp.ClientTimeout(total=None)
    async with door.http.get(url, headers={**own, **(headers or {})}, timeout=timeout) as response:
        assert response.status == 200, await response.text()
        stream = Stream(response)
        yield stream


async def write_lines(log: TranscriptLog, count: int, text: str = "") -> None:
    """Append so many lines in one write, as a worker would."""

    def plan(view: Any) -> None:
        for _ in range(count):
            view.append(event_line("t-0123456789abcdef", "note", content=text), 1)

    await log.append(plan, None)


def has_lines(count: int) -> Callable[[Stream], bool]:
    return lambda stream: len(stream.lines) >= count

"""What stands in Slack already: for an attempt that finds a post begun and not recorded."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from typing import Any, cast

from channels.slack.outbox import digest
from channels.slack.places import SlackPlace
from channels.slack.posting_calls import Calls, NotDone

CLOCKS_S = 3_600.0  #: by which our clock and Slack's may differ
PAGES, PAGE = 20, 200
EVENT_TYPE = "agent_session_reply"
NO_THREAD = "thread_not_found"  #: its first message was deleted before anybody had replied


class Lookup:
    """Looks through a place's messages."""

    def __init__(self, calls: Calls, settle_s: float) -> None:
        self._calls, self._settle_s = calls, settle_s

    async def settle(self, since: float, deadline: float, *, times: float = 1.0) -> None:
        """What was sent just now may still arrive. `times`: how much slower than a message it is."""
        pause = self._settle_s * times - max(time.time() - since, 0.0)
        if pause > 0:
            await asyncio.sleep(min(pause, max(deadline - time.monotonic(), 0.0)))

    async def find(
        self, place: SlackPlace, since: float, matches: Callable[[dict[str, Any]], bool], deadline: float
    ) -> str:
        """The ts of the newest message that matches, empty when there is none. What was posted to a thread that is
        no more stands in the conversation itself, without a word of Slack's. Errors: those of `Calls.do`; NotDone when
        it could not be looked through in time."""
        oldest = f"{since - CLOCKS_S:.6f}"
        try:
            return await self._newest(place, oldest, matches, deadline)
        except NotDone as refusal:
            if refusal.code != NO_THREAD:
                raise
        return await self._newest(replace(place, thread=""), oldest, matches, deadline)

    async def is_followed(
        self, place: SlackPlace, ts: str, matches: Callable[[dict[str, Any]], bool], deadline: float
    ) -> bool:
        """Whether a message that matches stands there below the one at `ts`; in a thread that is no more nothing
        does. Errors: as `find`."""
        try:
            async for messages in self._pages(place, ts, deadline):
                if any(matches(one) and str(one.get("ts", "")) > ts for one in messages):
                    return True
        except NotDone as refusal:
            if refusal.code != NO_THREAD:
                raise
        return False

    async def _newest(
        self, place: SlackPlace, oldest: str, matches: Callable[[dict[str, Any]], bool], deadline: float
    ) -> str:
        found = ""
        async for messages in self._pages(place, oldest, deadline):
            found = max([found, *(str(one.get("ts", "")) for one in messages if matches(one))])
            if found and not place.thread:
                break  # newest first; a thread is told the other way round
        return found

    async def _pages(self, place: SlackPlace, oldest: str, deadline: float) -> AsyncGenerator[list[dict[str, Any]]]:
        method = "conversations_replies" if place.thread else "conversations_history"
        where = {"channel": place.channel, **({"ts": place.thread} if place.thread else {})}
        cursor: dict[str, str] = {}
        for _ in range(PAGES):
            page = await self._calls.do(
                method, deadline, **where, oldest=oldest, limit=PAGE, include_all_metadata=True, **cursor
            )
            yield cast(list[dict[str, Any]], page.get("messages") or [])
            following = str(cast(dict[str, Any], page.get("response_metadata") or {}).get("next_cursor") or "")
            if not following:
                return
            cursor = {"cursor": following}
        raise NotDone(method, "there are too many messages to look through")


def metadata_of(session: str, reply: str, part: int) -> dict[str, Any]:
    """What each message carries. Other apps of the workspace can read it: it names no session."""
    payload = {"reply": reply, "part": part, "session": digest(session)[:16]}
    return {"event_type": EVENT_TYPE, "event_payload": payload}


def has(message: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """Whether the message is that part of that reply."""
    found = cast(dict[str, Any], message.get("metadata") or {})
    return found.get("event_type") == EVENT_TYPE and found.get("event_payload") == metadata["event_payload"]


def is_of(message: dict[str, Any], me: tuple[str, str]) -> bool:
    """Whether the app said it; `me` as `Calls.me` gives it."""
    return message.get("user") == me[0] or bool(me[1] and message.get("bot_id") == me[1])

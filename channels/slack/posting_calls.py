"""Calls of Slack's Web API for posting, with a bound on time and a clear answer to one question: may it have
happened?

The SDK's own retries are off here: after a lost connection they would post again. Slack's limits are per method and
workspace, a post's per conversation, too: all of a process goes through one `Calls`, and what is only decorative keeps
to a pace and gives way.
"""

import asyncio
import time
from collections import Counter
from typing import Any, cast
from weakref import WeakKeyDictionary

import aiohttp
from slack_sdk.errors import SlackApiError, SlackRequestError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

CALL_S = 6.0  #: one call, at most
DEFAULT_PAUSE_S = 1.0  #: for a 429 that does not say
#: decorative calls a minute, of one process, all conversations together; Slack takes 50, 100 and 20 a workspace
PACES = {"chat_update": 40.0, "chat_appendStream": 80.0, "chat_startStream": 15.0}
BURST = 10  #: of them at once, after a quiet time
PER_CHANNEL = ("chat_postMessage",)  #: methods whose limit is one of each conversation
#: no later attempt can succeed: the place is not there, or not for the app
NEVER = frozenset(
    ("channel_not_found", "is_archived", "not_in_channel", "is_inactive", "cannot_reply_to_message", "no_permission",
     "restricted_action", "restricted_action_read_only_channel", "restricted_action_thread_only_channel",
     "restricted_action_non_threadable_channel", "restricted_action_thread_locked", "messages_tab_disabled",
     "cannot_dm_bot", "user_not_found", "not_in_dm", "channel_type_not_supported", "msg_too_long",
     "msg_blocks_too_long", "no_text", "invalid_blocks", "invalid_blocks_format", "invalid_thread_ts")
)  # fmt: skip
#: Slack says of these that part of the operation may have succeeded
UNSURE = frozenset(("fatal_error", "internal_error", "request_timeout", "service_unavailable"))
LIMITED = frozenset(("ratelimited", "rate_limited", "message_limit_exceeded"))


class NotDone(Exception):
    """Slack refused, and has done nothing. `code` is its word; another attempt may succeed."""

    def __init__(self, method: str, code: str) -> None:
        super().__init__(f"Slack refused {method}: {code}")
        self.code = code


class Never(ValueError):
    """Slack refused, and will refuse whatever is tried again. `code` is its word."""

    def __init__(self, method: str, code: str) -> None:
        super().__init__(f"Slack refused {method} for good: {code}")
        self.code = code


class Limited(NotDone):
    """Too many calls: not now."""


class Unreached(NotDone):
    """The call did not get to Slack."""


class Unsure(Exception):
    """It may or may not have happened: look it up before it is done again."""


class Calls:
    """The Web API through one token, for one process."""

    def __init__(self, web: AsyncWebClient) -> None:
        self._web = without_retries(web)
        self._not_before: dict[str, float] = {}  #: what a limit is on -> monotonic
        self._waiting: Counter[str] = Counter()  #: what a limit is on -> calls that wait for its end
        self._paces = {method: Pace(per_minute) for method, per_minute in PACES.items()}
        self._me: tuple[str, str] | None = None

    @property
    def proxy(self) -> str | None:
        """For requests that are not the Web API's own."""
        return self._web.proxy

    async def do(self, method: str, deadline: float, /, **given: Any) -> dict[str, Any]:
        """Call a method (`chat_postMessage` …) before `deadline` (monotonic); waits for a 429 when that leaves
        time. Errors: Never, NotDone (Limited, Unreached), Unsure."""
        limit = _limit_of(method, given)
        if method in self._paces:
            self._paces[method].take()  # what is decorative comes later for it
        while True:
            await self._wait(method, limit, deadline)
            try:
                return await self._call(method, deadline, given)
            except SlackApiError as error:
                self._not_before[limit] = time.monotonic() + self._refused(method, error)

    async def slot(self, method: str) -> None:
        """Wait for the turn of a decorative call of that method."""
        await asyncio.sleep(self._paces[method].take())

    async def perhaps(self, method: str, deadline: float, /, **given: Any) -> dict[str, Any]:
        """As `do`, for what is only decorative: waits for no 429, and gives way to calls that do. Errors: those of
        `do`."""
        limit = _limit_of(method, given)
        if self._waiting[limit] or self._not_before.get(limit, 0.0) > time.monotonic():
            raise Limited(method, "ratelimited, and others go first")
        try:
            return await self._call(method, deadline, given)
        except SlackApiError as error:
            self._not_before[limit] = time.monotonic() + self._refused(method, error)
            raise Limited(method, "ratelimited") from None

    async def _call(self, method: str, deadline: float, given: dict[str, Any]) -> dict[str, Any]:
        """Errors: SlackApiError, Unreached, Unsure."""
        try:
            async with asyncio.timeout(min(CALL_S, deadline - time.monotonic())):
                answer: AsyncSlackResponse = await getattr(self._web, method)(**given)
            return cast(dict[str, Any], answer.data)
        except SlackApiError:
            raise
        except aiohttp.ClientConnectorError:
            raise Unreached(method, "Slack cannot be reached") from None
        except (TimeoutError, OSError, aiohttp.ClientError, SlackRequestError) as error:
            raise Unsure(f"no answer from Slack to {method}: {type(error).__name__}") from None

    async def me(self, deadline: float) -> tuple[str, str]:
        """The app's own user id and bot id."""
        if self._me is None:
            found = await self.do("auth_test", deadline)
            self._me = str(found.get("user_id", "")), str(found.get("bot_id", ""))
        return self._me

    async def _wait(self, method: str, limit: str, deadline: float) -> None:
        pause = self._not_before.get(limit, 0.0) - time.monotonic()
        if pause <= 0:
            self._not_before.pop(limit, None)
            if deadline <= time.monotonic():
                raise Unreached(method, "no time is left in this attempt")
            return
        if time.monotonic() + pause >= deadline:
            raise Limited(method, f"ratelimited, for {pause:.0f} s more")
        self._waiting[limit] += 1
        try:
            await asyncio.sleep(pause)
        finally:
            self._waiting[limit] -= 1

    def _refused(self, method: str, error: SlackApiError) -> float:
        """Seconds to wait and try again; raises for everything but a 429."""
        response: Any = error.response
        status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0) or 0)
        data: Any = getattr(response, "data", None)
        code = str(cast(dict[str, Any], data).get("error", "")) if isinstance(data, dict) else ""
        if status == 429 or code in LIMITED:
            return _retry_after(response)
        if code in UNSURE or status >= 500 or (not code and not 400 <= status < 500):
            raise Unsure(f"Slack could not say whether {method} was done: {code or status}") from None
        if code in NEVER:
            raise Never(method, code) from None
        raise NotDone(method, code or f"HTTP {status}") from None


class Pace:
    """So many a minute, a few at once after a quiet time; first come, first served."""

    def __init__(self, per_minute: float, burst: int = BURST) -> None:
        self._apart_s = 60.0 / per_minute
        self._burst_s = (burst - 1) * self._apart_s
        self._due = 0.0

    def take(self) -> float:
        """One of them; returns how long it has to wait for its turn, in seconds."""
        now = time.monotonic()
        self._due = max(self._due, now) + self._apart_s
        return max(self._due - self._apart_s - self._burst_s - now, 0.0)


_of_clients: "WeakKeyDictionary[AsyncWebClient, Calls]" = WeakKeyDictionary()


def calls_of(web: AsyncWebClient) -> Calls:
    """The calls through that client, the same object for all who share it: they share Slack's limits."""
    found = _of_clients.get(web)
    if found is None:
        found = _of_clients[web] = Calls(web)
    return found


def _limit_of(method: str, given: dict[str, Any]) -> str:
    return f"{method} {given.get('channel', '')}" if method in PER_CHANNEL else method


def without_retries(web: AsyncWebClient) -> AsyncWebClient:
    """The same client, without retries of its own."""
    made = AsyncWebClient(
        token=web.token,
        base_url=web.base_url,
        timeout=int(CALL_S) + 1,
        ssl=web.ssl,
        session=web.session,
        trust_env_in_session=web.trust_env_in_session,
        logger=web.logger,
        retry_handlers=[],
    )
    made.default_params = cast(dict[str, Any], web.default_params)
    made.proxy = web.proxy  # the SDK takes one from the environment where none is given
    return made


def _retry_after(response: Any) -> float:
    headers = cast(dict[str, str], getattr(response, "headers", None) or {})
    found = {str(name).lower(): str(value) for name, value in headers.items()}.get("retry-after", "")
    return max(float(found), 0.1) if found.replace(".", "", 1).isdigit() else DEFAULT_PAUSE_S

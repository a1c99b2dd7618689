"""The worker's own limits to one provider: requests and tokens a minute, and pauses that it asked for.

All sessions of the process share one `Limiter` a provider, so that a hundred of them do not stampede one
key. Any 60 s hold at most `requests` starts and about `tokens` tokens: estimated at the start, settled
with the provider's own count. Who waits is served in the order of arrival. Must not retry, and must not
hold a request longer than `longest_s`: a longer wait is a fault that Temporal retries later.
"""

import asyncio
import math
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

WINDOW_S = 60.0
LEAST_WAIT_S = 0.001  #: less may be lost in the clock's rounding, and the wait begun again for ever
LONGEST_WAIT_S = 60.0
LONGEST_PAUSE_S = 300.0  #: a provider that asks for more is asked again after this
RAMP_S = 10.0  #: after a pause, for so long...
RAMP_GAP_S = 0.1  #: ...requests start this far apart: the first ones learn whether the pause was enough
ANNOUNCE_S = 0.5  #: shorter waits are not worth a word


class TooLong(Exception):
    """The wait would be longer than a request may be held; `wait_s` says how long."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"the worker's limits for this provider leave room in {wait_s:.0f} s")
        self.wait_s = wait_s


@dataclass(eq=False)
class Entry:
    """A request: when it started (while it waits: when it may, as known at its arrival), and its size."""

    at: float
    tokens: int
    turn: asyncio.Event = field(default_factory=asyncio.Event)


class Limiter:
    def __init__(
        self,
        requests: int = 0,
        tokens: int = 0,
        *,
        window_s: float = WINDOW_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """So many in any window; 0: no limit. Pauses hold in any case."""
        self._requests, self._tokens, self._window_s, self._clock = requests, tokens, window_s, clock
        self._started: deque[Entry] = deque()
        self._waiting: deque[Entry] = deque()
        self._paused_until = -math.inf

    async def admit(self, tokens: int, on_wait: Callable[[str], None], longest_s: float = LONGEST_WAIT_S) -> Entry:
        """Return when the request may be sent; `settle` it afterwards. Errors: TooLong."""
        now = self._clock()
        self._forget(now)
        entry = Entry(0.0, min(tokens, self._tokens) if self._tokens else tokens)
        ahead = [*self._started, *self._waiting]
        entry.at = self._earliest(ahead, max(now, self._waiting[-1].at if self._waiting else now), entry.tokens)
        _refuse_or_announce(entry.at - now, on_wait, longest_s)
        self._waiting.append(entry)
        try:
            while self._waiting[0] is not entry:
                entry.turn.clear()
                await entry.turn.wait()
            while (wait := self._wait_of_head(entry)) > 0:
                if self._clock() + wait > entry.at + ANNOUNCE_S:  # a pause came while it waited
                    _refuse_or_announce(wait, on_wait, longest_s)
                    entry.at = self._clock() + wait
                entry.turn.clear()
                try:
                    await asyncio.wait_for(entry.turn.wait(), max(wait, LEAST_WAIT_S))
                except TimeoutError:
                    pass
            entry.at = self._clock()
            self._started.append(entry)
        finally:
            self._waiting.remove(entry)
            self._wake()
        return entry

    def settle(self, entry: Entry, tokens: int) -> None:
        """What the request really cost."""
        entry.tokens = tokens
        self._wake()

    def pause(self, seconds: float) -> None:
        """The provider said when to come again: nothing is sent to it before."""
        self._paused_until = max(self._paused_until, self._clock() + min(seconds, LONGEST_PAUSE_S))
        self._wake()

    def _wake(self) -> None:
        if self._waiting:
            self._waiting[0].turn.set()

    def _wait_of_head(self, entry: Entry) -> float:
        now = self._clock()
        self._forget(now)
        return self._earliest(list(self._started), now, entry.tokens) - now

    def _forget(self, now: float) -> None:
        while self._started and self._started[0].at <= now - self._window_s:
            self._started.popleft()

    def _earliest(self, before: list[Entry], at: float, tokens: int) -> float:
        """When a request of that size may start, after those `before` it in their order."""
        at = max(at, self._paused_until)
        if before and at < self._paused_until + RAMP_S:
            at = max(at, before[-1].at + RAMP_GAP_S)
        if self._requests and len(before) >= self._requests:
            at = max(at, before[-self._requests].at + self._window_s)
        if self._tokens:
            room = self._tokens - tokens
            recent = before[bisect_right(before, at - self._window_s, key=lambda one: one.at) :]
            for one in reversed(recent):
                room -= one.tokens
                if room < 0:
                    return max(at, one.at + self._window_s)
        return at


def _refuse_or_announce(wait: float, on_wait: Callable[[str], None], longest_s: float) -> None:
    if wait > longest_s:
        raise TooLong(wait)
    if wait >= ANNOUNCE_S:
        on_wait(f"waiting for the provider's limit, {math.ceil(wait)} s")


@cache
def limiter_of(provider: str, base_url: str, requests: int, tokens: int) -> Limiter:
    """The one limiter that all sessions of this process share for a provider. The arguments name it."""
    return Limiter(requests, tokens)

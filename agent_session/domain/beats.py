"""Heartbeats, as a session knows them: whether one may run now, what they used, why one was skipped.

Pure. Lives in carried state, so fields are only added, with a default (I8).
"""

import re
from dataclasses import dataclass, replace

DAY_S = 86_400
OK = "HEARTBEAT_OK"  #: the answer when nothing needs a person's attention
OK_CHARS = 200  #: a longer answer says more than that
QUIET = "quiet"  #: outcome of a beat that said so
TAG = re.compile(r"<[^<>]{0,40}>")

BUSY, BUDGET = "busy", "budget"  #: the session's own reasons
NOT_SET, HOURS, EMPTY, UNREADABLE, CHANGED, NO_SESSION = (
    "not_set", "hours", "empty", "unreadable", "changed", "no_session"
)  # fmt: skip
#: why a beat is skipped: a word on the wire, and what a person reads
SKIPS: dict[str, str] = {
    BUSY: "the session was busy",
    BUDGET: "the day's tokens for heartbeats are used up",
    NOT_SET: "no heartbeat is set for it on this volume",
    HOURS: "outside active hours",
    EMPTY: "HEARTBEAT.md has nothing in it",
    UNREADABLE: "HEARTBEAT.md cannot be read",
    CHANGED: "HEARTBEAT.md is not approved as it is now",
    NO_SESSION: "no live session",
}


@dataclass(frozen=True, kw_only=True)
class Beats:
    """What a session keeps of its heartbeats. Times are seconds since the epoch, 0 for never."""

    ran: int = 0
    last_s: int = 0  #: when one ended last
    outcome: str = ""  #: how: quiet, answered, interrupted, cancelled or failed
    skipped: int = 0  #: by the session; a reason found outside is counted when it begins
    skip: str = ""  #: the last reason, a word of `SKIPS`
    skip_s: int = 0
    day: int = 0  #: UTC day of `tokens`, counted from the epoch
    tokens: int = 0  #: of background turns on that day, input and output

    def skipping(self, why: str, now_s: int) -> "Beats":
        return replace(self, skipped=self.skipped + 1, skip=why, skip_s=now_s)

    def ending(self, outcome: str, now_s: int) -> "Beats":
        return replace(self, ran=self.ran + 1, outcome=outcome, last_s=now_s)

    def spending(self, tokens: int, now_s: int) -> "Beats":
        return replace(self, day=now_s // DAY_S, tokens=self.tokens_on(now_s) + tokens)

    def tokens_on(self, now_s: int) -> int:
        """Of the day that `now_s` is in."""
        return self.tokens if now_s // DAY_S == self.day else 0


def says_ok(text: str) -> bool:
    """Whether an answer says HEARTBEAT_OK and nothing else: markup and punctuation around it do not count, letters
    and digits do. An empty answer says as little."""
    if len(text) > OK_CHARS:
        return False
    said = "".join(char for char in TAG.sub("", text) if char.isalnum() or char == "_").strip("_")
    return said.upper() in (OK, "")

"""What was answered: the last replies, and a window of ids that were answered before.

Pure. Keeps I1 (a message is answered by exactly one turn) and I2 (the last 20 replies, at most 64 KiB,
are carried; older ones give outcome and turn, whose text the client reads from the transcript).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from agent_session.domain.limits import ANSWERED_IDS, PREVIEW_CHARS, REPLIES_BYTES, REPLIES_CARRIED, REPLY_BYTES
from agent_session.domain.wire import encoded_bytes

ANSWERED, INTERRUPTED, CANCELLED, FAILED = "answered", "interrupted", "cancelled", "failed"
ROLLED_OVER, UNKNOWN, PENDING = "rolled_over", "unknown", "pending"  #: what a waiter gets instead of a reply


@dataclass(frozen=True, kw_only=True)
class ReplyRecord:
    """How one turn ended, as waiters get it."""

    turn: str
    outcome: str
    text: str = ""  #: at most 8 KiB; longer ones by reference
    text_ref: str = ""  #: the turn whose text the transcript holds
    error_id: str = ""
    spool_ref: str = ""  #: the text is in the spool: words that do not pass through Temporal (I2)
    n: int = 0  #: the turn's number, for display


@dataclass(frozen=True, kw_only=True)
class CarriedReplies:
    """`window` holds `<scoped id> <outcome> <turn>`, oldest first."""

    last: tuple[ReplyRecord, ...] = ()
    window: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()  #: `<scoped id> <turn> <error id> <text>`


class Replies:
    """Answers `await_reply` and dedup."""

    def __init__(self, carried: CarriedReplies | None = None) -> None:
        carried = carried or CarriedReplies()
        self._last: dict[str, ReplyRecord] = {reply.turn: reply for reply in carried.last}
        self._sizes = {turn: encoded_bytes(reply.text) for turn, reply in self._last.items()}
        self._window: dict[str, tuple[str, str]] = {}
        for entry in carried.window:
            scoped, outcome, turn = entry.split(" ", 2)
            self._window[scoped] = (outcome, turn)
        self._refused: dict[str, ReplyRecord] = {}
        self._newest: ReplyRecord | None = None
        for entry in carried.refused:
            scoped, turn, error, text = entry.split(" ", 3)
            self.refuse(scoped, ReplyRecord(turn=turn, outcome=FAILED, text=text, error_id=error))

    def carried(self) -> CarriedReplies:
        return CarriedReplies(
            last=tuple(self._last.values()),
            window=tuple(f"{scoped} {outcome} {turn}" for scoped, (outcome, turn) in self._window.items()),
            refused=tuple(f"{scoped} {r.turn} {r.error_id} {r.text}" for scoped, r in self._refused.items()),
        )

    def record(self, scoped_ids: Iterable[str], reply: ReplyRecord, *, aside: bool = False) -> None:
        """These messages were answered by this reply. The first answer stands. An aside is not what was said
        last."""
        for scoped in scoped_ids:
            self._window.setdefault(scoped, (reply.outcome, reply.turn))
            self._refused.pop(scoped, None)
        if len(reply.text.encode("utf-8", "replace")) > REPLY_BYTES:
            reply = replace(reply, text="", text_ref=reply.turn)
        said_last = self.newest if aside else reply
        self._last.pop(reply.turn, None)
        self._last[reply.turn] = reply
        self._newest = said_last
        self._sizes[reply.turn] = encoded_bytes(reply.text)
        while len(self._last) > REPLIES_CARRIED or sum(self._sizes.values()) > REPLIES_BYTES:
            oldest = next(iter(self._last))
            del self._last[oldest], self._sizes[oldest]
        while len(self._window) > ANSWERED_IDS:
            del self._window[next(iter(self._window))]

    def refuse(self, scoped: str, reply: ReplyRecord) -> None:
        """Whoever waits for this id is told why it was not taken; the id itself stays free."""
        self._refused.pop(scoped, None)
        self._refused[scoped] = self._newest = reply
        while len(self._refused) > REPLIES_CARRIED:
            del self._refused[next(iter(self._refused))]

    def has(self, scoped: str) -> bool:
        """Whether it was answered: then the same id again is a duplicate."""
        return scoped in self._window

    def find(self, scoped: str) -> ReplyRecord | None:
        """The reply to a message, or None when it is not in the window."""
        if scoped not in self._window:
            return self._refused.get(scoped)
        outcome, turn = self._window[scoped]
        reply = self._last.get(turn)
        if reply is None or reply.outcome != outcome:
            return ReplyRecord(turn=turn, outcome=outcome, text_ref=turn)
        return reply

    @property
    def newest(self) -> ReplyRecord | None:
        """What was said last: a turn's reply, or why a message was refused."""
        return self._newest or next(reversed(self._last.values()), None)


def preview(text: str) -> str:
    """At most 500 characters, on one line."""
    line = " ".join(text[: PREVIEW_CHARS * 2].split())
    return line if len(line) <= PREVIEW_CHARS else line[: PREVIEW_CHARS - 1] + "…"

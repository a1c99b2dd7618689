"""Reading a transcript without a lock: up to its last whole line.

For prompts from the end (the cost depends on the window, not on the file), for people from the start.
"""

import fcntl
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

from agent_session.domain.beats import says_ok
from agent_session.domain.messages import HEARTBEAT
from agent_session.paths import open_regular
from agent_session.transcript.index import lines_backwards, lines_forward
from agent_session.transcript.lines import ASSISTANT, COMPACTION, ENDED, EVENT, GAP, NEW, USER, Line, calls_of, decode
from agent_session.transcript.log import FILE
from agent_session.transcript.volume import Volume

STOPS = (COMPACTION, NEW)  #: events that a window does not look behind
CHARS_PER_TOKEN = 4  #: a rough, widely used estimate; the provider's own count goes into usage


@dataclass(frozen=True)
class BadLine:
    """A line in mid-file that is no JSON object; readers skip it and name it."""

    number: int
    offset: int


@contextmanager
def opened(volume: Volume, key: str) -> Generator[int]:
    """The file's descriptor. Errors: FileNotFoundError (no such transcript), VolumeUnavailable."""
    with volume.session_folder(key) as handle:
        descriptor = open_regular(handle, FILE, os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def read_all(volume: Volume, key: str, offset: int = 0) -> Iterator[tuple[int, bytes, Line | BadLine]]:
    """Lines from `offset` on as (where the next one begins, raw, line). A torn last line is left for
    the next read."""
    with opened(volume, key) as descriptor:
        for number, (behind, raw) in enumerate(lines_forward(descriptor, offset), 1):
            yield behind, raw, decode(raw) or BadLine(number, behind - len(raw))


def stands(descriptor: int) -> bool:
    """Whether no writer is at work on the transcript: then nothing of it can be taken back, and it is on disk when
    this returns. The lock is given back when the file is closed. Errors: OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    os.fsync(descriptor)  # its writer may have been killed between write and sync
    return True


def progress(volume: Volume, key: str, turn: str, after_seq: int) -> tuple[int, bool]:
    """The number of the last line, 0 when there is no transcript yet; and, where that is less than `after_seq`,
    whether the turn, if it stands at the end, has noted a gap. Errors: VolumeUnavailable."""
    seq = 0
    for line in backwards(volume, key):
        seq = seq or int(line["seq"])
        if seq >= after_seq or line.get("turn") != turn:
            break
        if line.get("event") == GAP:
            return seq, True
    return seq, False


def backwards(volume: Volume, key: str) -> Iterator[Line]:
    """Lines from the last to the first; nothing when there is no transcript."""
    try:
        with opened(volume, key) as descriptor:
            for _, raw in lines_backwards(descriptor, os.fstat(descriptor).st_size):
                line = decode(raw)
                if line is not None:
                    yield line
    except FileNotFoundError:
        return


def window(volume: Volume, key: str, budget_tokens: int, turn: str) -> list[Line]:
    """The lines for a prompt, oldest first: back to the last compaction or `/new`, or as far as the token
    budget reaches, beginning at a person's words, so never between a tool call and its result. The words
    that opened the running `turn` are always there.

    Where the budget ends it, it begins at a place that stays for many turns, and keeps at least half of the
    budget where turns are small: a provider's cache lives on prompts that begin alike. The place follows
    from the transcript alone, so every worker finds the same one.
    """
    kept, words, cut = _newest(volume, key, budget_tokens, turn)
    start = _steady_start(kept, budget_tokens, turn) if cut else None
    if start is None:
        start = next((at for at, line in enumerate(kept) if line.get("role") in (USER, EVENT)), len(kept))
    words += [line for line in kept[:start] if line.get("turn") == turn and line.get("role") == USER]
    return _without_quiet_beats(_without_orphans(words + kept[start:]), turn)


def _newest(volume: Volume, key: str, budget_tokens: int, turn: str) -> tuple[list[Line], list[Line], bool]:
    """The last lines within the budget, the running turn's words before them, and whether it was the budget
    that ended them; oldest first."""
    kept: list[Line] = []
    words: list[Line] = []
    spent, cut = 0, False
    for line in backwards(volume, key):
        spent += 0 if cut else tokens_of(line)
        cut = cut or spent > budget_tokens
        if not cut:
            kept.append(line)
        elif line.get("turn") != turn:
            break
        elif line.get("role") == USER:
            words.append(line)
        if line.get("role") == EVENT and line.get("event") in STOPS:
            break
    return kept[::-1], words[::-1], cut


def _steady_start(kept: list[Line], budget_tokens: int, turn: str) -> int | None:
    """Where to begin lines that the budget cut: at a turn; inside the running one where it fills the budget
    alone, at a step; None where there is neither."""
    tails = list(accumulate(tokens_of(line) for line in reversed(kept)))[::-1]
    places = _turns_of(kept)
    if not places and kept and kept[-1].get("turn") == turn:
        places = {at: int(line.get("step", 0)) for at, line in enumerate(kept) if line.get("role") == ASSISTANT}
    older = [at for at in places if tails[at] >= budget_tokens / 2] or list(places)[:1]
    return max(older, key=lambda at: _roundness(places[at]), default=None)


def _turns_of(kept: list[Line]) -> dict[int, int]:
    """Where turns begin with a person's words, and their numbers."""
    places: dict[int, int] = {}
    before: object = None
    for at, line in enumerate(kept):
        if line.get("role") == EVENT:
            continue  # it may belong to a turn before, or note something ahead of the words
        if before is not None and line.get("turn") != before and line.get("role") == USER:
            places[at] = int(line.get("n", 0))
        before = line.get("turn")
    return places


def _roundness(number: int) -> int:
    """The largest power of two that divides it. Of a sliding range the roundest number stays longest: the
    next one comes after half of the range or more has gone by, on average."""
    return number & -number


def _without_orphans(lines: list[Line]) -> list[Line]:
    """Results whose call was cut off are left out: providers refuse them."""
    asked = {call["id"] for line in lines if line.get("role") == ASSISTANT for call in calls_of(line)}
    return [line for line in lines if "call" not in line or line.get("role") == EVENT or line["call"] in asked]


def _without_quiet_beats(lines: list[Line], turn: str) -> list[Line]:
    """Heartbeats that had nothing to say are left out once they are over: there may be dozens a day."""
    beats = {line["turn"] for line in lines if line.get("kind") == HEARTBEAT and line.get("turn") != turn}
    said: dict[str, bool] = {}
    for line in lines:
        if line.get("turn") in beats and line.get("role") == ASSISTANT:
            quiet = not calls_of(line) and says_ok(str(line.get("content", "")))
            said[line["turn"]] = said.get(line["turn"], False) or not quiet
    return [line for line in lines if said.get(str(line.get("turn")), True)]


def tokens_of(line: Line) -> int:
    """A rough count for the window's budget."""
    chars = len(str(line.get("content", ""))) + sum(len(str(call.get("args", ""))) for call in calls_of(line))
    return chars // CHARS_PER_TOKEN + 8


def reply_of(volume: Volume, key: str, turn: str) -> tuple[str, Line] | None:
    """The text that a turn ended with, and its `ended` line; None while it has not ended."""
    ended: Line | None = None
    for line in backwards(volume, key):
        if line.get("turn") != turn:
            if ended is not None:
                break
            continue
        if line.get("role") == EVENT and line.get("event") == ENDED:
            ended = line
        elif line.get("role") == ASSISTANT and ended is not None:
            return (str(line.get("content", "")) if ended.get("outcome") == "answered" else ""), ended
    return ("", ended) if ended is not None else None


def turn_of(volume: Volume, key: str, scoped: str) -> str | None:
    """The turn that took a message in, searched through the whole file from its end."""
    for line in backwards(volume, key):
        if line.get("role") == USER and line.get("id") == scoped:
            return str(line.get("turn"))
    return None


def took(volume: Volume, key: str, turn: str, scoped: str) -> bool:
    """Whether the turn, which stands at the transcript's end, has taken the message in. One that a batch brought
    along is not in it when an older turn has answered it, or nobody signed it."""
    for line in backwards(volume, key):
        if line.get("turn") != turn:
            return False
        if line.get("role") == USER and line.get("id") == scoped:
            return True
    return False

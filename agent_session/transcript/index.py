"""What a writer must know about the end of a transcript, kept in memory and brought up to date from the
bytes that others appended meanwhile.

Covers the last 1,000 lines and all of the open turn: its cost depends on the window, not on the file.
"""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from agent_session.domain.ids import call_id
from agent_session.domain.limits import TAIL_LINES
from agent_session.transcript.lines import ASSISTANT, ENDED, EVENT, GAP, TOOL, USER, Line, calls_of, decode, key_of

BLOCK_BYTES = 64 * 1024
CHECK_BYTES = 64
TURNS_KEPT = 2  #: one that is open, and one that follows it


@dataclass
class TurnSoFar:
    """What the lines of one turn say together, so that a step costs the same after a thousand steps."""

    n: int = 0
    words: Line | None = None  #: the first message that it took in, without its text
    gap: tuple[int, int] | None = None
    usage: dict[str, int] = field(default_factory=lambda: dict[str, int]())
    asked: dict[str, Line] = field(default_factory=lambda: dict[str, Line]())  #: calls without a result, by id

    def add(self, line: Line) -> None:
        self.n = self.n or int(line.get("n", 0))
        role = line.get("role")
        if role == USER and self.words is None:
            self.words = {name: value for name, value in line.items() if name != "content"}
        elif role == ASSISTANT:
            usage: dict[str, int] = line.get("usage") or {}
            for name, value in usage.items():
                self.usage[name] = self.usage.get(name, 0) + int(value)
            for at, call in enumerate(calls_of(line)):
                name = str(call.get("id") or call_id(str(line.get("turn")), int(line.get("step", 0)), at))
                self.asked[name] = {name: value for name, value in call.items() if name != "args"}
        elif role == TOOL:
            self.asked.pop(str(line.get("call")), None)
        elif role == EVENT and line.get("event") == GAP:
            self.gap = int(line["from"]), int(line["to"])


@dataclass
class Index:
    """State of the tail at `size` bytes, which is always the end of a whole line."""

    inode: int = 0
    size: int = 0
    seq: int = 0
    n: int = 0
    open_turn: str = ""
    entries: deque[tuple[str, str, int, int]] = field(default_factory=lambda: deque[tuple[str, str, int, int]]())
    places: dict[str, tuple[int, int]] = field(default_factory=lambda: dict[str, tuple[int, int]]())
    said: dict[str, str] = field(default_factory=lambda: dict[str, str]())  #: scoped id -> turn
    turns: dict[str, TurnSoFar] = field(default_factory=lambda: dict[str, TurnSoFar]())  #: the last few
    bad: int = 0  #: lines skipped because they are not JSON objects
    last_bytes: bytes = b""  #: the end of the last line, to notice that the file was replaced

    def add(self, line: Line, offset: int, raw: bytes) -> None:
        """The line that now ends the file."""
        self.size = offset + len(raw)
        self.last_bytes = raw[-CHECK_BYTES:]
        self.seq = line["seq"]
        self.n = max(self.n, int(line.get("n", 0)))
        turn, key = str(line.get("turn", "")), key_of(line)
        self.entries.append((key, turn, offset, len(raw)))
        self._turn(turn).add(line)
        self.places[key] = (offset, len(raw))
        if line.get("role") == USER:
            self.said[str(line.get("id"))] = turn
        if line.get("role") == EVENT and line.get("event") == ENDED:
            if self.open_turn == turn:
                self.open_turn = ""
        elif turn:
            self.open_turn = turn
        self._forget_old()

    def _forget_old(self) -> None:
        while len(self.entries) > TAIL_LINES and self.entries[0][1] != self.open_turn:
            key, turn, offset, _ = self.entries.popleft()
            if self.places.get(key, (offset, 0))[0] == offset:
                self.places.pop(key, None)
            if key.startswith("u/") and self.said.get(key.rsplit("/", 1)[1]) == turn:
                self.said.pop(key.rsplit("/", 1)[1], None)

    def _turn(self, turn: str) -> TurnSoFar:
        found = self.turns.setdefault(turn, TurnSoFar())
        while len(self.turns) > TURNS_KEPT:
            del self.turns[next(one for one in self.turns if one not in (turn, self.open_turn))]
        return found


def refresh(index: Index, descriptor: int) -> Index:
    """Bring the index up to what the file holds now. A file that was replaced or cut is read anew."""
    info = os.fstat(descriptor)
    if info.st_ino != index.inode or info.st_size < index.size or not _same_end(index, descriptor):
        index = _build(descriptor, info.st_size)
        index.inode = info.st_ino
        return index
    if info.st_size > index.size:
        _feed(index, descriptor, index.size, info.st_size)
    return index


def whole_size(index: Index, descriptor: int) -> int:
    """Where the last whole line ends, torn bytes behind it not counted; bad whole lines are."""
    size = os.fstat(descriptor).st_size
    if size == index.size:
        return size
    rest = os.pread(descriptor, size - index.size, index.size)
    return index.size + rest.rfind(b"\n") + 1


def lines_backwards(descriptor: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines with their offsets, last first. A torn last line is passed over."""
    position, rest, first = end, b"", True
    while position > 0:
        start = max(0, position - BLOCK_BYTES)
        rest = os.pread(descriptor, position - start, start) + rest
        position = start
        if first:
            cut = rest.rfind(b"\n") + 1
            if not cut and position:
                continue
            rest, first = rest[:cut], False
        while rest:
            newline = rest.rfind(b"\n", 0, len(rest) - 1)
            if newline < 0:
                break
            yield position + newline + 1, rest[newline + 1 :]
            rest = rest[: newline + 1]
    if rest and not first:
        yield 0, rest


def lines_forward(descriptor: int, start: int, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Whole lines from `start` on, where a line begins, each with where the next one begins; up to `end`, or to
    the file's. A torn last line is left for the next read."""
    rest, position = b"", start
    while True:
        at = position + len(rest)
        data = os.pread(descriptor, BLOCK_BYTES if end is None else min(BLOCK_BYTES, end - at), at)
        if not data:
            return
        rest += data
        begin = 0
        while (newline := rest.find(b"\n", begin)) >= 0:
            raw, begin = rest[begin : newline + 1], newline + 1
            yield position + begin, raw
        rest, position = rest[begin:], position + begin


def _same_end(index: Index, descriptor: int) -> bool:
    if not index.last_bytes:
        return True
    found = os.pread(descriptor, len(index.last_bytes), index.size - len(index.last_bytes))
    return found == index.last_bytes


def _build(descriptor: int, end: int) -> Index:
    """Read from the end until 1,000 lines and the whole open turn are covered."""
    collected: list[tuple[int, bytes, Line]] = []
    bad, last_turn = 0, None
    for offset, raw in lines_backwards(descriptor, end):
        line = decode(raw)
        if line is None:
            bad += 1
            continue
        turn = line.get("turn", "")
        last_turn = turn if last_turn is None else last_turn
        if len(collected) >= TAIL_LINES and turn != last_turn:
            break
        collected.append((offset, raw, line))
    index = Index(bad=bad)
    for offset, raw, line in reversed(collected):
        index.add(line, offset, raw)
    return index


def _feed(index: Index, descriptor: int, start: int, end: int) -> None:
    for behind, raw in lines_forward(descriptor, start, end):
        line = decode(raw)
        if line is not None:
            index.add(line, behind - len(raw), raw)
        else:
            index.bad += 1
            index.size, index.last_bytes = behind, raw[-CHECK_BYTES:]

"""A transcript that is read on as it grows: each line once, also when an older copy is restored meanwhile.

What is returned is on disk and stands: a write that is still under way, and may be taken back, is not (I5).
"""

import os
from collections import OrderedDict

from agent_session.transcript.index import lines_backwards, lines_forward
from agent_session.transcript.lines import ENDED, EVENT, decode
from agent_session.transcript.reader import opened, stands
from agent_session.transcript.volume import Volume

READ_BYTES = 4 * 1024 * 1024
KNOWN_LINES = 1_000  #: the last lines, by which the place is found again in a restored copy
KNOWN_AT_FIRST = 100
END_BYTES = 64  #: before the place that was reached; other ones there say that the file was written anew

Told = list[tuple[int, bytes, str]]  #: seq, the raw line without its newline, and the turn that it ends, if any


class Busy(Exception):
    """A writer is at work: look again in a moment."""


class Followed:
    """Of one session, from its end on. Not for two threads at once."""

    def __init__(self, volume: Volume, key: str) -> None:
        self._volume, self._key = volume, key
        self._inode: int = 0
        self._position: int = -1  #: before the first look
        self._end = b""  #: the bytes before the position
        self._known: OrderedDict[int, int] = OrderedDict()  #: seq -> hash of the line
        self.seq = 0  #: of the last line that stands

    def look(self) -> Told:
        """The lines that came since the last look; none at the first. Errors: Busy, OSError, VolumeUnavailable; a
        transcript that does not exist yet holds nothing."""
        try:
            with opened(self._volume, self._key) as descriptor:
                return self._look(descriptor)
        except FileNotFoundError:
            if self._position < 0:
                self._position = 0
            return []

    def _look(self, descriptor: int) -> Told:
        info = os.fstat(descriptor)
        same: bool = info.st_ino == self._inode and _ends_with(descriptor, self._position, self._end)
        if same and info.st_size == self._position:
            return []
        if not stands(descriptor):
            raise Busy
        size = _whole_size(descriptor)
        if self._position < 0:
            found: Told = []
            self._remember(descriptor, size)
        elif same or not self._inode:
            found = [line for _, raw in lines_forward(descriptor, self._position, size) for line in _told(raw)]
        else:
            found = self._behind_what_is_known(descriptor, size)
        self._inode, self._position = info.st_ino, size
        self._end = os.pread(descriptor, min(size, END_BYTES), max(0, size - END_BYTES))
        for seq, raw, _ in found:
            self._note(seq, raw)
        return found

    def _remember(self, descriptor: int, size: int) -> None:
        last: Told = []
        for _, raw in lines_backwards(descriptor, size):
            last += _told(raw)
            if len(last) >= KNOWN_AT_FIRST:
                break
        for seq, raw, _ in reversed(last):
            self._note(seq, raw)

    def _behind_what_is_known(self, descriptor: int, size: int) -> Told:
        """The file was replaced or cut. Its lines behind the last one that is known, though their numbers may have
        been used; where none is known, those with new numbers."""
        found: Told = []
        for _, raw in lines_backwards(descriptor, size):
            for line in _told(raw):
                if self._known.get(line[0]) == hash(line[1]):
                    self.seq = line[0]
                    return found[::-1]
                found.append(line)
            if len(found) > 2 * KNOWN_LINES:
                break
        return [line for line in reversed(found) if line[0] > self.seq]

    def _note(self, seq: int, raw: bytes) -> None:
        for later in [one for one in reversed(self._known) if one >= seq] if seq <= self.seq else ():
            del self._known[later]
        self._known[seq] = hash(raw)
        self.seq = seq
        while len(self._known) > KNOWN_LINES:
            self._known.popitem(last=False)


def _told(raw: bytes) -> Told:
    line = decode(raw)
    if line is None:
        return []
    ended = str(line.get("turn", "")) if line.get("role") == EVENT and line.get("event") == ENDED else ""
    return [(int(line["seq"]), raw.rstrip(b"\n"), ended)]


def _ends_with(descriptor: int, position: int, end: bytes) -> bool:
    return os.pread(descriptor, len(end), max(0, position - len(end))) == end


def _whole_size(descriptor: int) -> int:
    """Where the last whole line ends: a torn one behind it was never acknowledged, and will be cut off."""
    size = os.fstat(descriptor).st_size
    end = size
    while end > 0:
        start = max(0, end - READ_BYTES)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0

"""The end of a transcript, read on as it grows: which turn took a message in, and which turns have ended.

For those who wait for an answer. What is reported stands on disk, whole: a write that is still under way, and
may be taken back, is not (I5).
"""

import os
from collections.abc import Iterable, Mapping

from agent_session.transcript.lines import ENDED, EVENT, USER, decode
from agent_session.transcript.reader import opened, stands
from agent_session.transcript.volume import Volume

LOOK_BACK_BYTES = 16 * 1024  #: where the first look begins, before the end
READ_BYTES = 4 * 1024 * 1024  #: what grew by more since the last look is skipped, but for its end
KEPT = 1_000  #: messages and turns that are remembered


class Tail:
    """Of one session. Not for two threads at once."""

    def __init__(self, volume: Volume, key: str) -> None:
        self._volume, self._key = volume, key
        self._forget()

    def look(self, scoped_ids: Iterable[str], known: Mapping[str, str] | None = None) -> dict[str, str]:
        """Read what is new; return those of the messages whose turn has ended, each with its turn. `known`: turns
        that took a message in, learnt elsewhere, as its line may be far back. Errors: OSError, VolumeUnavailable;
        a transcript that does not exist yet holds nothing."""
        try:
            with opened(self._volume, self._key) as descriptor:
                self._read_on(descriptor)
                self._taken = {**(known or {}), **self._taken}
                ended = {one: self._taken[one] for one in scoped_ids if self._taken.get(one) in self._ended}
                return ended if ended and self._stands(descriptor) else {}
        except FileNotFoundError:
            self._forget()
            self._position = 0
            return {}

    def _forget(self) -> None:
        self._position, self._inode = -1, 0
        self._taken: dict[str, str] = {}
        self._ended: dict[str, None] = {}

    def _read_on(self, descriptor: int) -> None:
        about = os.fstat(descriptor)
        size = about.st_size
        if size < self._position or about.st_ino != self._inode:  # another copy, or a write was taken back
            fresh = self._position == 0
            self._forget()
            self._inode = about.st_ino
            self._position = 0 if fresh else -1
        if self._position < 0 or size - self._position > READ_BYTES:
            self._position = max(0, size - LOOK_BACK_BYTES)
        data = os.pread(descriptor, size - self._position, self._position)
        whole = data.rfind(b"\n") + 1  # a torn last line is left for the next look
        self._position += whole
        for raw in data[:whole].splitlines():
            self._note(raw)
        for kept in (self._taken, self._ended):
            while len(kept) > KEPT:
                del kept[next(iter(kept))]

    def _note(self, raw: bytes) -> None:
        line = decode(raw)  # None for what the first look cut in two
        if line is None:
            return
        if line.get("role") == USER:
            self._taken[str(line.get("id"))] = str(line.get("turn"))
        elif line.get("role") == EVENT and line.get("event") == ENDED:
            self._ended[str(line.get("turn"))] = None

    def _stands(self, descriptor: int) -> bool:
        """No writer is at work, and what was read is on disk."""
        if not stands(descriptor):
            return False
        if os.fstat(descriptor).st_size < self._position:
            self._forget()
            return False
        return True

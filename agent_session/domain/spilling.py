"""A queue that keeps little in memory: the head stands ready, the middle lies in spill files, new
messages join the tail.

Pure: it says what should be spilled or loaded next (`chunk_to_spill`, `file_to_load`) and is told when
that has been done. Keeps I1: a message is in exactly one of head, file or tail, in order.
"""

import base64
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent_session.domain.limits import INBOX_BYTES, INBOX_HEAD_BYTES, SPILL_MESSAGES
from agent_session.domain.messages import InboundMessage


@dataclass(frozen=True, kw_only=True)
class SpillFile:
    """A write-once file of messages in the session's spool."""

    ref: str  #: sha256 of its content
    messages: int
    ids: str = ""  #: their scoped ids, 8 bytes each, in base64


def pack_ids(scoped_ids: Iterable[str]) -> str:
    return base64.b64encode(b"".join(bytes.fromhex(one) for one in scoped_ids)).decode()


def unpack_ids(packed: str) -> list[str]:
    data = base64.b64decode(packed)
    return [data[at : at + 8].hex() for at in range(0, len(data), 8)]


class SpillingQueue:
    """First in, first out, with room at the front for what interrupts."""

    def __init__(
        self,
        head: Iterable[InboundMessage] = (),
        files: Iterable[SpillFile] = (),
        tail: Iterable[InboundMessage] = (),
    ) -> None:
        self.head = deque(head)
        self.files = deque(files)
        self.tail = deque(tail)
        self.spilling = 0  #: messages at the start of the tail that are being written right now
        self._head_bytes = sum(message.size_bytes for message in self.head)
        self._tail_bytes = sum(message.size_bytes for message in self.tail)

    def __len__(self) -> int:
        return len(self.head) + len(self.tail) + sum(file.messages for file in self.files)

    @property
    def in_memory_bytes(self) -> int:
        return self._head_bytes + self._tail_bytes

    def push(self, message: InboundMessage) -> None:
        if self.files or self.tail or self._head_bytes >= INBOX_HEAD_BYTES:
            self.tail.append(message)
            self._tail_bytes += message.size_bytes
        else:
            self._to_head(message)

    def has_room_in_front(self) -> bool:
        """Whether something may jump the queue: the front is never spilled, so it is bounded here."""
        return self._head_bytes < INBOX_BYTES - INBOX_HEAD_BYTES // 2

    def push_front(self, message: InboundMessage, *, behind: int = 0) -> None:
        """Put it before all others, but behind the first `behind` of them."""
        self.head.insert(behind, message)
        self._head_bytes += message.size_bytes

    def ready(self) -> bool:
        """Whether the head can be read now, without a file being loaded first."""
        self._refill()
        return bool(self.head)

    def peek(self) -> Iterator[InboundMessage]:
        """The head, in order; call `ready` first."""
        return iter(self.head)

    def pop(self) -> InboundMessage:
        message = self.head.popleft()
        self._head_bytes -= message.size_bytes
        return message

    def take(self, wanted: set[str]) -> None:
        """Take messages out of memory by their scoped id, wherever they stand. What is being spilled
        stays: its file is already on its way."""
        untouched = list(self.tail)[: self.spilling]
        rest = list(self.tail)[self.spilling :]
        self.head = deque(message for message in self.head if message.scoped not in wanted)
        self.tail = deque(untouched + [message for message in rest if message.scoped not in wanted])
        self._head_bytes = sum(message.size_bytes for message in self.head)
        self._tail_bytes = sum(message.size_bytes for message in self.tail)

    def takeable(self) -> Iterator[InboundMessage]:
        """What `take` can take, in order."""
        yield from self.head
        yield from list(self.tail)[self.spilling :]

    def fits(self) -> bool:
        """Whether what is in memory may be carried."""
        return self.in_memory_bytes <= INBOX_BYTES or not self.tail

    def chunk_to_spill(self) -> list[InboundMessage]:
        """The oldest messages of the tail, when memory holds more than it may; else nothing."""
        if self.spilling or self.in_memory_bytes <= INBOX_BYTES or not self.tail:
            return []
        chunk = [message for _, message in zip(range(SPILL_MESSAGES), self.tail, strict=False)]
        self.spilling = len(chunk)
        return chunk

    def spilled(self, ref: str) -> None:
        """The chunk is in a file: forget it here."""
        count, self.spilling = self.spilling, 0
        gone = [self.tail.popleft() for _ in range(count)]
        self._tail_bytes -= sum(message.size_bytes for message in gone)
        self.files.append(SpillFile(ref=ref, messages=count, ids=pack_ids(message.scoped for message in gone)))

    def spill_failed(self) -> None:
        self.spilling = 0

    def file_to_load(self) -> SpillFile | None:
        """The file that must be read before the next batch can be taken."""
        return self.files[0] if self.files and not self.head else None

    def loaded(self, file: SpillFile, messages: Iterable[InboundMessage]) -> None:
        """The first file has been read; its messages now stand behind whatever interrupted meanwhile."""
        if self.files and self.files[0].ref == file.ref:
            self.files.popleft()
            for message in messages:
                self._to_head(message)

    def _refill(self) -> None:
        if self.files or self.spilling:
            return
        while self.tail and self._head_bytes < INBOX_HEAD_BYTES:
            message = self.tail.popleft()
            self._tail_bytes -= message.size_bytes
            self._to_head(message)

    def _to_head(self, message: InboundMessage) -> None:
        self.head.append(message)
        self._head_bytes += message.size_bytes

"""The inbox: what people said that no turn has answered yet.

Pure: no I/O, no clock, no temporalio. Keeps I1: an id is accepted once and leaves in one batch; ids of
pending messages are never forgotten, answered ones stay in a window of 1,000.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from agent_session.domain.limits import (
    BACKGROUND_MESSAGES,
    BATCH_BYTES,
    BATCH_MESSAGES,
    PENDING_MESSAGES,
)
from agent_session.domain.messages import FOLLOWUP, INTERRUPT, STEER, InboundMessage
from agent_session.domain.spilling import SpillFile, SpillingQueue, unpack_ids

QUEUED, DUPLICATE, FULL = "queued", "duplicate", "full"
ANY = "*"  #: stands for a signature that is not known any more


@dataclass(frozen=True, kw_only=True)
class CarriedInbox:
    """The inbox as it rolls over. Spilled messages' ids travel with their files."""

    head: tuple[InboundMessage, ...] = ()
    files: tuple[SpillFile, ...] = ()
    tail: tuple[InboundMessage, ...] = ()
    background: tuple[InboundMessage, ...] = ()


class Inbox:
    """Four queue modes over one order: collect, followup, steer, interrupt."""

    def __init__(self, carried: CarriedInbox | None = None) -> None:
        carried = carried or CarriedInbox()
        self.people = SpillingQueue(carried.head, carried.files, carried.tail)
        self.background: list[InboundMessage] = list(carried.background)
        #: scoped id -> signatures it came with; ANY where only the id is known (spilled, or in a turn)
        self._pending: dict[str, list[str]] = {}
        for file in carried.files:
            self.opened(unpack_ids(file.ids))
        for message in (*carried.head, *carried.tail, *carried.background):
            self._pending.setdefault(message.scoped, []).append(message.mac)

    def carried(self) -> CarriedInbox:
        """What rolls over. The ids of the running turn travel with the turn."""
        return CarriedInbox(
            head=tuple(self.people.head),
            files=tuple(self.people.files),
            tail=tuple(self.people.tail),
            background=tuple(self.background),
        )

    def __len__(self) -> int:
        """Messages that wait."""
        return len(self.people) + len(self.background)

    def knows(self, scoped: str) -> bool:
        """Whether this message waits, or its turn is running."""
        return scoped in self._pending

    def has_same(self, message: InboundMessage) -> bool:
        """Whether this very message waits. The same id under another signature is let in: one of the two
        is forged, and only an activity can tell which; the transcript drops a true repetition."""
        known = self._pending.get(message.scoped)
        return known is not None and (ANY in known or message.mac in known)

    def opened(self, scoped_ids: Iterable[str]) -> None:
        """A carried turn is running with these, or a file holds them."""
        for scoped in scoped_ids:
            self._pending.setdefault(scoped, []).append(ANY)

    def accept(self, message: InboundMessage) -> str:
        """Take a message in: queued, duplicate, or full (then it was not taken). Heartbeats of one place
        coalesce: `superseded` names the one that went."""
        if self.has_same(message):
            return DUPLICATE
        if len(self._pending) >= PENDING_MESSAGES:
            return FULL
        if message.is_background:
            if len(self.background) >= BACKGROUND_MESSAGES:
                return FULL
            self.background.append(message)
        elif message.mode == INTERRUPT and self.people.has_room_in_front():
            ahead = 0
            for waiting in self.people.peek():
                if waiting.mode != INTERRUPT:
                    break
                ahead += 1
            self.people.push_front(message, behind=ahead)
        else:
            self.people.push(message)
        self._pending.setdefault(message.scoped, []).append(message.mac)
        return QUEUED

    def coalesce(self, message: InboundMessage) -> InboundMessage | None:
        """The waiting background message that `message` replaces, taken out; none for people."""
        if not message.is_background:
            return None
        for waiting in self.background:
            if waiting.kind == message.kind and waiting.goes_with(message) and waiting.scoped != message.scoped:
                self.background.remove(waiting)
                self.answered([waiting.scoped])
                return waiting
        return None

    def has_batch(self) -> bool:
        """Whether a batch can be taken without loading a spill file first."""
        return self.people.ready() or (not len(self.people) and bool(self.background))

    def next_batch(self) -> tuple[InboundMessage, ...]:
        """What the next turn answers: people before background; at most 64 messages and 64 KiB of one
        principal and one place; a followup alone; one that could not be read alone."""
        if not self.people.ready():
            batch = tuple(self.background[:1])
            del self.background[:1]
            return batch
        first = self.people.pop()
        batch, size = [first], first.size_bytes
        if first.mode == FOLLOWUP or first.fault:
            return (first,)
        while len(batch) < BATCH_MESSAGES and self.people.ready():
            candidate = next(self.people.peek())
            size += candidate.size_bytes
            if candidate.mode == FOLLOWUP or not candidate.goes_with(first) or size > BATCH_BYTES:
                break
            batch.append(self.people.pop())
        return tuple(batch)

    def take_steering(self, like: InboundMessage) -> tuple[InboundMessage, ...]:
        """Messages in mode steer for the running turn, from its own principal and place; others wait
        for a turn of their own."""
        taken: list[InboundMessage] = []
        size = 0
        for message in self.people.takeable():
            if message.mode != STEER or message.fault or not message.goes_with(like):
                continue
            size += message.size_bytes
            if len(taken) == BATCH_MESSAGES or size > BATCH_BYTES:
                break
            taken.append(message)
        if taken:
            self.people.take({message.scoped for message in taken})
        return tuple(taken)

    def aside(self, message: InboundMessage) -> None:
        """It is answered beside the turns; until then its id is known."""
        self._pending.setdefault(message.scoped, []).append(message.mac)

    def answered(self, scoped_ids: Iterable[str]) -> None:
        """Their turn has ended: from here on the answered window knows them."""
        for scoped in scoped_ids:
            self._pending.pop(scoped, None)

    def refused(self, scoped: str, mac: str = ANY) -> None:
        """The message of this id and signature was not taken; another one may still wait under it."""
        left = list(self._pending.get(scoped, ()))
        if left:
            left.remove(mac if mac in left else left[0])
        if left:
            self._pending[scoped] = left
        else:
            self._pending.pop(scoped, None)

"""I1: the inbox against a simple model, whatever comes in whatever order."""

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent_session.domain.inbox import DUPLICATE, QUEUED, CarriedInbox, Inbox
from agent_session.domain.limits import BATCH_BYTES, BATCH_MESSAGES, INBOX_BYTES, SPILL_MESSAGES
from agent_session.domain.messages import COLLECT, FOLLOWUP, INTERRUPT, MODES, STEER, InboundMessage
from agent_session.domain.spilling import SpillFile
from agent_session.domain.wire import from_wire, to_wire


class InboxAgainstAModel(RuleBasedStateMachine):
    """The model: a list of people's messages in order, a set of ids that were accepted."""

    def __init__(self) -> None:
        super().__init__()
        self.inbox = Inbox()
        self.waiting: list[InboundMessage] = []
        self.taken: list[str] = []
        self.files: dict[str, list[InboundMessage]] = {}
        self.accepted: set[str] = set()
        self.number = 0

    def _message(self, mode: str, who: int, place: int, size: int) -> InboundMessage:
        self.number += 1
        return InboundMessage(
            id=str(self.number),
            channel="test",
            text="x" * size,
            principal=f"p{who}",
            reply_address=f"file:{place}",
            mode=mode,
        )

    @rule(
        mode=st.sampled_from([COLLECT, COLLECT, COLLECT, FOLLOWUP, STEER, INTERRUPT]),
        who=st.integers(0, 1),
        place=st.integers(0, 1),
        size=st.sampled_from([1, 100, 1700]),
        burst=st.sampled_from([1, 1, 3, 70, 150]),
    )
    def people_send(self, mode: str, who: int, place: int, size: int, burst: int) -> None:
        for _ in range(burst):
            message = self._message(mode, who, place, size)
            jumps = mode == INTERRUPT and self.inbox.people.has_room_in_front()
            assert self.inbox.accept(message) == QUEUED
            self.accepted.add(message.scoped)
            ahead = next((n for n, m in enumerate(self.waiting) if m.mode != INTERRUPT), len(self.waiting))
            self.waiting.insert(ahead if jumps else len(self.waiting), message)
            if not jumps and mode == INTERRUPT:  # then it is an ordinary one, and others may pass it
                self.waiting[-1] = message

    @precondition(lambda self: self.waiting)
    @rule(which=st.randoms())
    def a_channel_retries(self, which: object) -> None:
        message = which.choice(self.waiting)  # type: ignore[attr-defined]
        assert self.inbox.accept(message) == DUPLICATE

    @rule()
    def a_turn_opens(self) -> None:
        while (file := self.inbox.people.file_to_load()) is not None:
            self.inbox.people.loaded(file, self.files.pop(file.ref))
        if not self.inbox.has_batch():
            assert not self.waiting or self.inbox.people.spilling
            return
        batch = self.inbox.next_batch()
        assert 1 <= len(batch) <= BATCH_MESSAGES
        assert len(batch) == 1 or sum(message.size_bytes for message in batch) <= BATCH_BYTES
        assert len({(m.principal, m.reply_address) for m in batch}) == 1
        assert len(batch) == 1 or not any(message.mode == FOLLOWUP for message in batch)
        assert [m.scoped for m in batch] == [m.scoped for m in self.waiting[: len(batch)]]
        del self.waiting[: len(batch)]
        self._take(batch)

    @precondition(lambda self: self.waiting)
    @rule()
    def a_step_boundary_takes_steering(self) -> None:
        like = replace(self.waiting[0], text="")
        steered = self.inbox.take_steering(like)
        for message in steered:
            assert message.mode == STEER
            assert message.goes_with(like)
            self.waiting.remove(message)
        self._take(steered)

    def _take(self, batch: tuple[InboundMessage, ...]) -> None:
        self.taken += [message.scoped for message in batch]
        self.inbox.answered(message.scoped for message in batch)

    @rule(fails=st.booleans())
    def memory_is_kept_small(self, fails: bool) -> None:
        while chunk := self.inbox.people.chunk_to_spill():
            assert len(chunk) <= SPILL_MESSAGES
            if fails:
                self.inbox.people.spill_failed()
                return
            ref = f"file-{len(self.taken)}-{chunk[0].id}"
            self.files[ref] = chunk
            self.inbox.people.spilled(ref)
        assert self.inbox.people.in_memory_bytes <= INBOX_BYTES or not self.inbox.people.tail

    @precondition(lambda self: not self.inbox.people.spilling)
    @rule()
    def it_rolls_over(self) -> None:
        carried = from_wire(CarriedInbox, to_wire(self.inbox.carried()))
        assert carried == self.inbox.carried()
        self.inbox = Inbox(carried)

    @invariant()
    def nothing_is_lost_and_nothing_is_taken_twice(self) -> None:
        assert len(self.taken) == len(set(self.taken))
        assert {m.scoped for m in self.waiting} | set(self.taken) == self.accepted
        assert len(self.inbox) == len(self.waiting)
        assert all(self.inbox.knows(message.scoped) for message in self.waiting)
        assert set(MODES) >= {message.mode for message in self.waiting}
        assert all(isinstance(file, SpillFile) for file in self.inbox.people.files)


TestInbox = InboxAgainstAModel.TestCase
TestInbox.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

"""Rules of the domain, case by case: queue, replies, deliveries, status in words.

What holds for whatever comes is in `tests/property/`; here is what exactly comes out.
"""

from typing import Any

import pytest

from agent_session.domain.inbox import DUPLICATE, FULL, QUEUED, CarriedInbox, Inbox
from agent_session.domain.limits import (
    BACKGROUND_MESSAGES,
    BATCH_BYTES,
    BATCH_MESSAGES,
    INBOX_BYTES,
    INBOX_HEAD_BYTES,
    OUTBOX_DELIVERIES,
    REPLY_BYTES,
)
from agent_session.domain.messages import FOLLOWUP, HEARTBEAT, INTERRUPT, STEER, SYSTEM, InboundMessage
from agent_session.domain.options import Options, changed, options_from
from agent_session.domain.outbox import Delivery, Outbox
from agent_session.domain.replies import ANSWERED, FAILED, Replies, ReplyRecord, preview
from agent_session.domain.spilling import SpillFile, SpillingQueue, pack_ids, unpack_ids
from agent_session.domain.status import RunningTool, Status
from agent_session.domain.status_words import ago, amount, dollars, status_lines, usage_words


def said(number: int, **more: Any) -> InboundMessage:
    return InboundMessage(id=str(number), channel="test", **{"text": "hi", **more})


def test_steering_takes_only_what_may_join_the_turn() -> None:
    inbox = Inbox()
    joins = [said(1, mode=STEER), said(2, mode=STEER)]
    stays = [said(3), said(4, mode=STEER, principal="other"), said(5, mode=STEER, fault="unreadable"),
             said(6, mode=FOLLOWUP)]  # fmt: skip
    for one in (stays[0], joins[0], *stays[1:], joins[1]):
        assert inbox.accept(one) == QUEUED
    assert list(inbox.take_steering(said(0))) == joins
    assert list(inbox.take_steering(said(0))) == []
    assert [batch[0] for _ in stays if (batch := inbox.next_batch())] == stays


def test_steering_takes_at_most_a_batch() -> None:
    inbox = Inbox()
    for number in range(BATCH_MESSAGES + 3):
        inbox.accept(said(number, mode=STEER))
    assert len(inbox.take_steering(said(-1))) == BATCH_MESSAGES
    assert len(inbox.take_steering(said(-1))) == 3


def test_steering_takes_at_most_the_bytes_of_a_batch() -> None:
    inbox = Inbox()
    long = [said(number, mode=STEER, text="x" * 1_500) for number in range(60)]
    for message in long:
        inbox.accept(message)
    taken = inbox.take_steering(said(-1))
    assert taken == tuple(long[: len(taken)])
    assert BATCH_BYTES - long[0].size_bytes < sum(message.size_bytes for message in taken) <= BATCH_BYTES


def test_an_interrupt_goes_before_what_waits_and_behind_earlier_interrupts() -> None:
    inbox = Inbox()
    for number, mode in ((1, "collect"), (2, INTERRUPT), (3, INTERRUPT), (4, "collect")):
        inbox.accept(said(number, mode=mode, principal=str(number)))
    assert [inbox.next_batch()[0].id for _ in range(4)] == ["2", "3", "1", "4"]


def test_a_followup_and_what_could_not_be_read_are_alone() -> None:
    inbox = Inbox()
    for one in (said(1), said(2, mode=FOLLOWUP), said(3), said(4, fault="odd"), said(5), said(6)):
        inbox.accept(one)
    assert [[one.id for one in inbox.next_batch()] for _ in range(5)] == [["1"], ["2"], ["3"], ["4"], ["5", "6"]]


def test_people_come_before_the_background_which_goes_one_by_one() -> None:
    inbox = Inbox()
    for one in (said(1, kind=HEARTBEAT), said(2, kind=SYSTEM), said(3)):
        inbox.accept(one)
    assert len(inbox) == 3
    assert inbox.has_batch()
    assert [one.id for one in inbox.next_batch()] == ["3"]
    assert inbox.has_batch(), "the background alone"
    assert [[one.id for one in inbox.next_batch()] for _ in range(2)] == [["1"], ["2"]]
    assert not inbox.has_batch()


def test_the_background_waits_for_people_whose_messages_lie_in_a_file() -> None:
    file = SpillFile(ref="a", messages=1, ids=pack_ids([said(1).scoped]))
    inbox = Inbox(CarriedInbox(files=(file,), background=(said(2, kind=HEARTBEAT),)))
    assert not inbox.has_batch()
    inbox.people.loaded(file, [said(1)])
    assert [one.id for one in inbox.next_batch()] == ["1"]


def test_a_newer_heartbeat_of_the_same_place_replaces_the_one_that_waits() -> None:
    inbox = Inbox()
    waits = said(1, kind=HEARTBEAT)
    inbox.accept(waits)
    assert inbox.coalesce(waits) is None, "itself, again"
    assert inbox.coalesce(said(2, kind=SYSTEM)) is None
    assert inbox.coalesce(said(2, kind=HEARTBEAT, reply_address="file:x")) is None
    assert inbox.coalesce(said(2)) is None
    assert inbox.coalesce(said(2, kind=HEARTBEAT)) == waits
    assert not inbox.knows(waits.scoped)
    assert len(inbox) == 0


def test_an_id_is_known_until_its_turn_has_ended() -> None:
    inbox = Inbox()
    one = said(1, mac="a")
    assert inbox.accept(one) == QUEUED
    assert inbox.accept(one) == DUPLICATE
    inbox.next_batch()
    assert inbox.knows(one.scoped)
    assert inbox.has_same(one)
    inbox.answered([one.scoped, "never seen"])
    assert not inbox.knows(one.scoped)


def test_the_same_id_under_another_signature_waits_too_and_each_is_refused_for_itself() -> None:
    inbox = Inbox()
    true, forged = said(1, mac="a"), said(1, mac="b")
    assert [inbox.accept(forged), inbox.accept(true)] == [QUEUED, QUEUED]
    inbox.refused(forged.scoped, "b")
    assert inbox.has_same(true)
    assert not inbox.has_same(forged)
    inbox.refused(true.scoped, "unknown")
    assert not inbox.knows(true.scoped)
    inbox.refused(true.scoped)
    assert not inbox.knows(true.scoped)


def test_what_a_file_or_a_carried_turn_holds_is_the_same_under_any_signature() -> None:
    inbox = Inbox()
    inbox.opened([said(1).scoped])
    assert inbox.accept(said(1, mac="whatever")) == DUPLICATE


def test_the_background_is_bounded() -> None:
    inbox = Inbox()
    for number in range(BACKGROUND_MESSAGES):
        assert inbox.accept(said(number, kind=SYSTEM)) == QUEUED
    assert inbox.accept(said(-1, kind=SYSTEM)) == FULL
    assert not inbox.knows(said(-1).scoped)
    assert inbox.accept(said(-1)) == QUEUED


def test_ids_are_packed_eight_bytes_each() -> None:
    ids = ["0123456789abcdef", "00" * 8]
    assert pack_ids(ids) == "ASNFZ4mrze8AAAAAAAAAAA=="
    assert unpack_ids(pack_ids(ids)) == ids
    assert unpack_ids("") == []


def test_the_front_of_a_queue_takes_what_jumps_it_up_to_its_bound() -> None:
    big = said(1, text="x" * 1_000)
    queue = SpillingQueue(head=[big] * ((INBOX_BYTES - INBOX_HEAD_BYTES // 2) // big.size_bytes))
    assert queue.has_room_in_front()
    queue.push_front(said(2), behind=1)
    assert [one.id for one in queue.peek()][:3] == ["1", "2", "1"]
    queue.push_front(big)
    assert not queue.has_room_in_front()
    assert queue.in_memory_bytes == sum(one.size_bytes for one in queue.peek())


def test_a_queue_knows_how_much_it_holds_whatever_comes_and_goes() -> None:
    queue = SpillingQueue()
    for number in range(3 * INBOX_HEAD_BYTES // 1_000):
        queue.push(said(number, text="x" * 1_000))
    assert queue.tail
    while queue.ready():
        assert queue.in_memory_bytes == sum(one.size_bytes for one in (*queue.head, *queue.tail))
        queue.pop()
    assert queue.in_memory_bytes == 0


def test_what_lies_in_a_file_is_read_before_what_came_later() -> None:
    file = SpillFile(ref="a", messages=1)
    queue = SpillingQueue(files=[file], tail=[said(2)])
    assert not queue.ready()
    queue.loaded(file, [said(1)])
    assert [queue.pop().id for _ in range(2) if queue.ready()] == ["1", "2"]


def test_only_the_first_file_is_taken_back_and_behind_what_interrupted() -> None:
    queue = SpillingQueue(files=[SpillFile(ref="a", messages=1), SpillFile(ref="b", messages=2)])
    assert len(queue) == 3
    assert queue.file_to_load() == SpillFile(ref="a", messages=1)
    queue.push_front(said(9))
    assert queue.file_to_load() is None, "the head is read first"
    queue.loaded(SpillFile(ref="b", messages=2), [said(1)])
    assert [one.id for one in queue.peek()] == ["9"]
    queue.loaded(SpillFile(ref="a", messages=1), [said(1)])
    assert [one.id for one in queue.peek()] == ["9", "1"]
    assert len(queue) == 4


# ---- replies and deliveries ----


def answered(turn: str, text: str = "", **more: Any) -> ReplyRecord:
    return ReplyRecord(turn=turn, outcome=ANSWERED, text=text, **more)


def test_the_first_answer_to_a_message_stands() -> None:
    replies = Replies()
    replies.record(["a"], answered("t-1", "first"))
    replies.record(["a", "b"], answered("t-2", "second"))
    assert (replies.find("a"), replies.find("b")) == (answered("t-1", "first"), answered("t-2", "second"))
    assert replies.find("c") is None


def test_a_reply_that_is_no_longer_carried_is_found_by_reference() -> None:
    replies = Replies()
    replies.record(["a"], answered("t-0", "text"))
    for number in range(1, 21):
        replies.record([f"m{number}"], answered(f"t-{number}"))
    assert replies.find("a") == answered("t-0", text_ref="t-0")
    assert replies.find("m1") == answered("t-1")


def test_a_long_reply_is_kept_by_reference() -> None:
    replies = Replies()
    replies.record(["a"], answered("t-1", "ä" * (REPLY_BYTES // 2)))
    replies.record(["b"], answered("t-2", "ä" * (REPLY_BYTES // 2) + "x"))
    assert replies.find("a") == answered("t-1", "ä" * (REPLY_BYTES // 2))
    assert replies.find("b") == answered("t-2", text_ref="t-2")


def test_an_aside_is_not_what_was_said_last_and_a_refusal_is() -> None:
    replies = Replies()
    replies.record(["a"], answered("t-1"))
    replies.record(["b"], answered("t-2"), aside=True)
    assert replies.newest == answered("t-1")
    refusal = ReplyRecord(turn="t-3", outcome=FAILED, text="no", error_id="e-1")
    replies.refuse("c", refusal)
    assert (replies.newest, replies.find("c"), replies.has("c")) == (refusal, refusal, False)
    replies.record(["c"], answered("t-4"))
    assert (replies.find("c"), replies.has("c")) == (answered("t-4"), True)


def test_a_preview_is_one_line_of_500_characters() -> None:
    assert preview(" a\n b\t c ") == "a b c"
    assert preview("x" * 500) == "x" * 500
    assert preview("x" * 501) == "x" * 499 + "…"


def test_one_delivery_of_a_place_is_in_flight_and_an_abandoned_one_stays_first() -> None:
    outbox = Outbox()
    first, second, other = (Delivery(reply=reply, address=place) for reply, place in
                            (("t-1", "file:a"), ("t-2", "file:a"), ("t-3", "file:b")))  # fmt: skip
    for one in (first, second, other):
        outbox.add(one)
    assert outbox.startable() == [first, other]
    assert outbox.startable() == []
    outbox.abandoned(first)
    assert outbox.startable() == [first]
    outbox.delivered(first)
    assert outbox.startable() == [second]
    assert outbox.carried() == (second, other)
    assert first.channel == "file"


def test_what_is_in_flight_is_never_dropped_for_want_of_room() -> None:
    outbox = Outbox()
    flies = Delivery(reply="t-0", address="file:a")
    outbox.add(flies)
    outbox.startable()
    waits = [Delivery(reply=f"t-{number}", address="file:a") for number in range(1, OUTBOX_DELIVERIES + 2)]
    for one in waits:
        outbox.add(one)
    assert outbox.carried() == (flies, *waits[2:])
    assert outbox.dropped == 2
    outbox.delivered(flies)
    assert outbox.startable() == [waits[2]]


# ---- words for people ----


def test_a_status_in_words() -> None:
    quiet = Status(key="main")
    assert status_lines(quiet, 0) == ["main · idle", "  0 turns · 0 in this run · 0 roll-overs · 0 tokens"]
    busy = Status(
        key="main", state="running", turn="t-1", n=7, step=2, since_s=100, model="m", answered_by="server", queue=1,
        deliveries=2, deliveries_dropped=3, turns=4, turns_in_run=5, roll_overs=6, input_tokens=900, output_tokens=100,
        cached_tokens=50, cost_microusd=2_500_000, choice="c", shell="s", allowed=("a: b", "c: d"), last_reply="r",
        last_outcome="answered", last_error="quota", last_error_id="e-1", last_error_s=10,
        tools=(RunningTool(call="x", tool="shell", since_s=40), RunningTool(call="y", tool="git", state="asks")),
    )  # fmt: skip
    assert status_lines(busy, 3_700) == [
        "main · running 1:00:00 · turn 7, step 2 (t-1) · m",
        "  no worker answers; this is what Temporal itself knows",
        "  ⚙ shell  running 1:01:00  x",
        "  ? git  asks 1:01:40  y",
        "  queue 1 · deliveries 2",
        "  3 deliveries were dropped: their channel stayed away too long",
        "  4 turns · 5 in this run · 6 roll-overs · 1.0k tokens (50 cached) · $2.50",
        "  model chosen for this session: c",
        "  shell: s",
        "  allowed for this session: a: b · c: d",
        "  last reply (answered): r",
        "  last error 1:01:30 ago: quota, agent-session logs --id e-1",
    ]


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0"), (999, "999"), (1_000, "1.0k"), (9_999, "10.0k"), (10_000, "10k"), (999_999, "999k"),
     (1_500_000, "1.5M")],
)  # fmt: skip
def test_amounts(count: int, words: str) -> None:
    assert amount(count) == words


def test_costs_and_times() -> None:
    assert [dollars(one) for one in (1, 999_999, 1_000_000)] == ["$0.0000", "$1.0000", "$1.00"]
    assert [ago(0, one) for one in (0, 59, 60, 3_599, 3_600, -5)] == [
        "00:00", "00:59", "01:00", "59:59", "1:00:00", "00:00",
    ]  # fmt: skip
    assert usage_words(1, 2, 0, 0) == "3 tokens"


def test_options_travel_only_where_they_differ() -> None:
    assert changed(Options()) == {}
    assert changed(Options(turns_per_run=3, idle_days=30)) == {"turns_per_run": 3}
    assert options_from({"turns_per_run": 3, "of the future": 1}) == Options(turns_per_run=3)

"""Values that live in Temporal: sizes, round trips, names."""

import string
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent_session.domain.asides import ASIDES
from agent_session.domain.beats import SKIPS, Beats
from agent_session.domain.failures import ADVICE, FailureEnvelope, envelope_from
from agent_session.domain.ids import BadSessionKey, call_id, scoped_id, session_key, turn_id
from agent_session.domain.inbox import CarriedInbox, Inbox
from agent_session.domain.limits import BATCH_BYTES, ENVELOPE_BYTES, KEY_BYTES, PENDING_MESSAGES, STATE_BYTES
from agent_session.domain.messages import InboundMessage, parse_message
from agent_session.domain.outbox import Delivery, Outbox
from agent_session.domain.patterns import PATTERNS, AllowedPattern
from agent_session.domain.replies import Replies, ReplyRecord
from agent_session.domain.state import SessionState
from agent_session.domain.turns import REASON_BYTES, Decision, OpenTurn, ToolCall
from agent_session.domain.wire import clipped, encoded_bytes, from_wire, to_wire
from agent_session.transcript.volume import Volume

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=8), children, max_size=3),
    max_leaves=8,
)
texts = st.text(max_size=30)


@given(raw=json_values | st.dictionaries(st.sampled_from(["id", "text", "channel", "mode", "grants"]), json_values))
def test_whatever_a_signal_holds_reads_as_a_message(raw: object) -> None:
    message = parse_message(raw, fallback_id="fallback")
    assert message.id
    assert message.channel
    assert message.fault or message.text or message.text_ref or message.attachments
    assert from_wire(InboundMessage, to_wire(message)) == message


@given(id=texts, channel=texts, text=texts, grants=st.lists(texts, max_size=3), mode=texts)
def test_a_message_survives_the_wire(id: str, channel: str, text: str, grants: list[str], mode: str) -> None:
    message = InboundMessage(id=id, channel=channel, text=text, grants=tuple(grants), mode=mode)
    assert from_wire(InboundMessage, to_wire(message)) == message


@given(raw=json_values)
def test_any_mapping_reads_as_a_state_without_an_error(raw: object) -> None:
    assert isinstance(from_wire(SessionState, raw), SessionState)
    assert isinstance(from_wire(OpenTurn, raw), OpenTurn)


@given(key=st.text(max_size=300))
def test_a_session_key_is_refused_or_safe(key: str) -> None:
    volume = Volume(Path("/data"))
    try:
        safe = session_key(key)
    except BadSessionKey:
        return
    assert session_key(safe) == safe
    assert len(safe.encode()) <= KEY_BYTES
    folder, digits, name = volume.folder_name(safe)
    assert folder == "sessions"
    assert set(name) <= set(string.ascii_letters + string.digits + "._-")
    assert len(digits) == 2
    assert not name.startswith(".")
    assert len(name) <= 40 + 1 + 64


def test_keys_that_differ_have_folders_that_differ() -> None:
    volume = Volume(Path("/data"))
    keys = ["..", ".", "a/b", "a_b", "A", "a", "ä", "a\u0308x", "x" * 200, "x" * 199 + "y", "../..", "a b"]
    assert len({volume.folder_name(session_key(key)) for key in keys}) == len(keys)
    assert session_key("a\u0308") == session_key("ä")


@given(a=st.tuples(texts, texts, texts), b=st.tuples(texts, texts, texts))
def test_ids_are_scoped_by_channel_and_principal(a: tuple[str, str, str], b: tuple[str, str, str]) -> None:
    assert (scoped_id(*a) == scoped_id(*b)) == (a == b)
    assert len(scoped_id(*a)) == 16


@given(ids=st.lists(texts, min_size=1, max_size=5))
def test_turn_and_call_ids_are_what_providers_allow(ids: list[str]) -> None:
    name = call_id(turn_id(ids), 40, 63)
    assert set(name) <= set(string.ascii_letters + string.digits + "_-")
    assert len(name) <= 64


@given(kind=st.sampled_from(sorted(ADVICE)) | texts, error=st.text(max_size=5000), wait=st.floats(0, 1e9))
def test_a_failure_envelope_stays_small(kind: str, error: str, wait: float) -> None:
    envelope = envelope_from([to_wire(FailureEnvelope(kind=kind, error_id=error, retry_after_s=wait))])
    assert encoded_bytes(to_wire(envelope)) <= ENVELOPE_BYTES
    assert len(envelope.apology.encode()) <= ENVELOPE_BYTES


@settings(max_examples=8, deadline=None)
@given(text=st.sampled_from(["x", "\U0001f600", "\x01", "ä"]), count=st.sampled_from([50, 2_000, 13_000]))
def test_the_carried_state_stays_below_512_kib(text: str, count: int) -> None:
    inbox, replies = Inbox(), Replies()
    for number in range(count):
        inbox.accept(InboundMessage(id=str(number), channel="slack", text=text * 150, principal="slack:U123456"))
        while chunk := inbox.people.chunk_to_spill():
            assert chunk
            inbox.people.spilled("f" * 64)
    assert len(inbox) <= PENDING_MESSAGES
    for number in range(1_200):
        replies.record(
            [f"{number:016x}"], ReplyRecord(turn=f"t-{number:016x}", outcome="interrupted", text=text * 8_000)
        )
    outbox = Outbox()
    for number in range(600):
        outbox.add(
            Delivery(reply=f"t-{number:016x}", address="slack:T1/C1/1234567890.123456", mac="0" * 32, text_ref="f" * 64)
        )
    decision = Decision(
        decision="deny", principal="slack:U123456", grants=("approve", "shell"), mac="0" * 32,
        reason=clipped(text * REASON_BYTES, REASON_BYTES), pattern="p" * 200,
    )  # fmt: skip
    calls = tuple(
        ToolCall(index=n, tool="x" * 64, verdict="ask", digest="0" * 32, decision=decision) for n in range(64)
    )
    allowed = AllowedPattern(tool="x" * 64, pattern="p" * 200, principal="slack:U123456", confinement="c" * 200)
    asides = tuple(InboundMessage(id=str(n), channel="slack", text=text * 150, mac="0" * 32) for n in range(ASIDES))
    batch = tuple(InboundMessage(id=str(n), channel="slack", text=text * 150) for n in range(64))
    while encoded_bytes([to_wire(message) for message in batch]) > BATCH_BYTES:
        batch = batch[:-1]
    scoped = tuple(f"{n:016x}" for n in range(200))
    turn = OpenTurn(id="t-" + "0" * 16, messages=batch, scoped=scoped, calls=calls)
    state = SessionState(
        key="k",
        inbox=inbox.carried(),
        replies=replies.carried(),
        outbox=outbox.carried(),
        turn=turn,
        asides=asides,
        allowed=(allowed,) * PATTERNS,
        beats=Beats(ran=10**9, last_s=10**10, outcome="interrupted", skip=max(SKIPS, key=len), tokens=10**12),
    )
    assert encoded_bytes(to_wire(state)) <= STATE_BYTES
    assert from_wire(SessionState, to_wire(state)) == state
    assert isinstance(state.inbox, CarriedInbox)

"""Names that live in Temporal and on disk for years, and how values are read back: exactly these, for ever."""

from dataclasses import replace
from typing import Any

import pytest

from agent_session.domain.failures import ADVICE, FailureEnvelope, envelope_from
from agent_session.domain.ids import (
    BadMessageId,
    BadSessionKey,
    call_id,
    error_id,
    key_of_workflow,
    message_id,
    scoped_id,
    session_key,
    turn_id,
    workflow_id,
)
from agent_session.domain.limits import ID_CHARS, KEY_BYTES, MESSAGE_BYTES
from agent_session.domain.messages import COLLECT, HEARTBEAT, PERSON, SCHEDULE, SYSTEM, InboundMessage, parse_message
from agent_session.domain.status import RunningTool, Status
from agent_session.domain.turns import Decision, OpenTurn, StepAnswer
from agent_session.domain.wire import clipped, encoded_bytes, from_wire, to_wire

MESSAGE = InboundMessage(
    id="m1", channel="slack", text="hello", principal="slack:T1:U1", grants=("shell",), reply_address="slack:T1/C1",
    kind=PERSON, mode="steer", sender="Ada", mac="0" * 32, reply_mac="1" * 32, attachments=("ab 3 text/plain a.txt",),
)  # fmt: skip


def test_names_are_the_same_in_every_version() -> None:
    assert workflow_id("team/ada") == "session/team/ada"
    assert key_of_workflow("session/session/a") == "session/a"
    assert scoped_id("slack", "slack:T1:U1", "m1") == "8a2576674eee38d8"
    assert scoped_id("", "", "\ud800") == "c787922b83d2425b"
    assert turn_id(["0123456789abcdef", "fedcba9876543210"]) == "t-f46549101424db27"
    assert call_id("t-0123456789abcdef", 3, 1) == "t-0123456789abcdef-3-1"
    assert error_id("t-1", 2, "why") == "e-665c1dae"


def test_parts_of_a_name_cannot_be_shifted() -> None:
    assert scoped_id("a", "bc", "d") != scoped_id("ab", "c", "d")
    assert scoped_id("a", "b\x001:c", "d") != scoped_id("a", "b", "c\x001:d")
    assert turn_id(["ab", "c"]) != turn_id(["a", "bc"]) != turn_id(["abc"])
    assert turn_id(["a", "b"]) != turn_id(["b", "a"])


@pytest.mark.parametrize("key", ["x" * KEY_BYTES, "ä" * (KEY_BYTES // 2), "..", "a/b", "a b", "né"])
def test_a_key_is_taken_as_it_is(key: str) -> None:
    assert session_key(key) == key


def test_a_key_has_one_spelling() -> None:
    assert session_key("ne\u0301") == "n\u00e9"


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("", "a session key is empty: give a name, for example main"),
        (" \u2003", "a session key is empty: give a name, for example main"),
        ("a\nb", r"session key 'a\nb' has a control character: use printable text"),
        ("a\ud800", r"session key 'a\ud800' has a control character: use printable text"),
        ("x" * 201, f"session key '{'x' * 20}'… is 201 bytes long: the limit is 200"),
        ("ä" * 101, rf"session key '{chr(92)}{f'xe4{chr(92)}' * 19}xe4'… is 202 bytes long: the limit is 200"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_with_the_reason(key: str, told: str) -> None:
    with pytest.raises(BadSessionKey) as refused:
        session_key(key)
    assert str(refused.value) == told


@pytest.mark.parametrize("id", ["x", "x" * ID_CHARS, "ä ö", "a/../b"])
def test_a_message_id_is_taken_as_it_is(id: str) -> None:
    assert message_id(id) == id


@pytest.mark.parametrize("id", ["", "x" * (ID_CHARS + 1), "a\tb", "\ud800"])
def test_a_message_id_that_cannot_be_used_is_refused(id: str) -> None:
    with pytest.raises(BadMessageId) as refused:
        message_id(id)
    assert str(refused.value) == f"message id {id[:40]!a} must be 1 to 256 printable characters"


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("channel", "http"), ("principal", "slack:T1:U2"), ("grants", ()), ("reply_address", "slack:T1/C2"),
        ("kind", HEARTBEAT), ("fault", "it is not a message"),
    ],
)  # fmt: skip
def test_messages_of_another_place_or_authority_never_share_a_turn(field: str, other: Any) -> None:
    assert not MESSAGE.goes_with(replace(MESSAGE, **{field: other}))
    assert not replace(MESSAGE, **{field: other}).goes_with(MESSAGE)


@pytest.mark.parametrize(
    ("field", "other"), [("id", "m2"), ("text", "bye"), ("sender", "Bob"), ("mode", COLLECT), ("kind", SCHEDULE),
                         ("attachments", ()), ("mac", "2" * 32), ("text_ref", "f" * 64)]
)  # fmt: skip
def test_messages_of_one_place_and_authority_may(field: str, other: Any) -> None:
    assert MESSAGE.goes_with(replace(MESSAGE, **{field: other}))


def test_heartbeats_and_system_messages_are_background_and_nothing_else_is() -> None:
    assert [kind for kind in (PERSON, HEARTBEAT, SYSTEM, SCHEDULE) if replace(MESSAGE, kind=kind).is_background] == [
        HEARTBEAT, SYSTEM,
    ]  # fmt: skip


def test_a_message_reads_back_whole() -> None:
    assert parse_message(to_wire(MESSAGE), fallback_id="fallback") == MESSAGE


def test_unknown_words_read_as_the_default() -> None:
    odd = to_wire(MESSAGE) | {"mode": "shout", "kind": "ghost", "of the future": 1}
    assert parse_message(odd, fallback_id="fallback") == replace(MESSAGE, mode=COLLECT, kind=PERSON)


def test_what_is_no_message_at_all_says_so() -> None:
    for odd in (None, "text", ["id"], 3):
        assert parse_message(odd, fallback_id="fallback") == InboundMessage(
            id="fallback", channel="unknown", fault="it is not a message"
        )


TOOL = RunningTool(call="c", tool="")
LONG = "x" * (ID_CHARS + 1)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": ""}, "it has no id"),
        ({"channel": 3}, "it names no channel"),
        ({"text": 3, "attachments": []}, "its text cannot be read"),
        ({"text": "", "attachments": []}, "it has no text"),
        ({"text": "x" * MESSAGE_BYTES}, f"it is larger than {MESSAGE_BYTES} bytes"),
        ({"id": LONG}, "its id, channel, principal or address is longer than 256 characters"),
        ({"channel": LONG}, "its id, channel, principal or address is longer than 256 characters"),
        ({"principal": LONG}, "its id, channel, principal or address is longer than 256 characters"),
        ({"reply_address": LONG}, "its id, channel, principal or address is longer than 256 characters"),
    ],
)
def test_a_message_that_cannot_be_read_keeps_where_it_came_from_and_nothing_else(
    change: dict[str, Any], told: str
) -> None:
    given = {**to_wire(MESSAGE), "text_ref": "", **change}
    read = parse_message(given, fallback_id="fallback")
    assert read == InboundMessage(
        id=str(given["id"])[:ID_CHARS] or "fallback",
        channel=given["channel"][:ID_CHARS] if isinstance(given["channel"], str) else "unknown",
        principal=given["principal"][:ID_CHARS],
        reply_address=given["reply_address"][:ID_CHARS],
        reply_mac="1" * 32,
        kind=PERSON,
        mode="steer",
        fault=told,
    )


def test_an_address_signature_of_any_length_is_cut() -> None:
    assert parse_message({"id": "a", "channel": "b", "reply_mac": "1" * 99}, fallback_id="f").reply_mac == "1" * 64


@pytest.mark.parametrize("message", [{"text": "hi"}, {"text_ref": "f" * 64}, {"attachments": ["a 1 b c"]}])
def test_words_a_reference_or_a_file_is_enough(message: dict[str, Any]) -> None:
    assert parse_message({"id": "a", "channel": "b", **message}, fallback_id="f").fault == ""


def test_values_at_their_limit_are_taken() -> None:
    most = "x" * ID_CHARS
    given = {"id": most, "channel": most, "principal": most, "reply_address": most, "text": "x"}
    assert parse_message(given, fallback_id="f").fault == ""
    fits = replace(MESSAGE, text="x" * (MESSAGE_BYTES - replace(MESSAGE, text="").size_bytes - len(',"text":""')))
    assert fits.size_bytes == MESSAGE_BYTES
    assert parse_message(to_wire(fits), fallback_id="f").fault == ""
    assert parse_message(to_wire(replace(fits, text=fits.text + "x")), fallback_id="f").fault


def test_defaults_do_not_travel() -> None:
    assert to_wire(InboundMessage(id="a", channel="b")) == {"id": "a", "channel": "b"}
    assert to_wire(Status(key="k", tools=(RunningTool(call="c", tool="t"),))) == {
        "key": "k", "tools": [{"call": "c", "tool": "t"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "read"),
    [
        ({"key": "k", "queue": True}, Status(key="k")),
        ({"key": "k", "queue": "3"}, Status(key="k")),
        ({"key": "k", "closing": 1}, Status(key="k")),
        ({"key": 3}, Status(key="")),
        ({"key": "k", "allowed": "ab"}, Status(key="k")),
        ({"key": "k", "allowed": ["a", 3]}, Status(key="k")),
        ({"key": "k", "tools": [{"call": "c", "since_s": "x"}]}, Status(key="k", tools=(TOOL,))),
        ({"key": "k", "tools": [3]}, Status(key="k")),
        ("no mapping", Status(key="")),
    ],
)  # fmt: skip
def test_a_value_of_another_type_reads_as_the_default(raw: object, read: Status) -> None:
    assert from_wire(Status, raw) == read


def test_required_fields_that_are_missing_read_as_empty() -> None:
    assert from_wire(RunningTool, {}) == RunningTool(call="", tool="")
    turn = from_wire(OpenTurn, {})
    assert (turn.id, turn.messages, turn.scoped, turn.place) == ("", (), (), None)


def test_an_optional_value_reads_as_the_first_kind_that_fits() -> None:
    assert from_wire(OpenTurn, {"id": "t", "place": {"id": "m", "channel": "c"}}).place == InboundMessage(
        id="m", channel="c"
    )
    assert from_wire(OpenTurn, {"id": "t", "place": None}).place is None
    assert from_wire(OpenTurn, {"id": "t", "place": 3}).place is None
    assert from_wire(StepAnswer, {"finish": "stop", "options": {"turns_per_run": 3}}).options == {"turns_per_run": 3}


@pytest.mark.parametrize(
    ("details", "read"),
    [
        ([{"kind": "quota", "error_id": "e-1"}], FailureEnvelope(kind="quota", error_id="e-1")),
        (({"kind": "quota", "retry_after_s": 2.5},), FailureEnvelope(kind="quota", retry_after_s=2.5)),
        ({"kind": "quota", "retry_after_s": 3}, FailureEnvelope(kind="quota", retry_after_s=3)),
        ([{"kind": "unheard of", "error_id": "e-1"}], FailureEnvelope(kind="internal", error_id="e-1")),
        ([{"kind": "quota", "error_id": "e" * 99}], FailureEnvelope(kind="quota", error_id="e" * 32)),
        ([{"kind": "quota", "retry_after_s": True}], FailureEnvelope(kind="quota")),
        ([], FailureEnvelope()),
        (["text", {"kind": "quota"}], FailureEnvelope()),
        (None, FailureEnvelope()),
    ],
)
def test_a_failure_is_read_from_whatever_stands_there(details: object, read: FailureEnvelope) -> None:
    assert envelope_from(details) == read


@pytest.mark.parametrize("kind", [*ADVICE, "unheard of"])
def test_an_apology_is_one_sentence_with_advice_and_the_id(kind: str) -> None:
    advice = ADVICE.get(kind, ADVICE["internal"])
    assert FailureEnvelope(kind=kind, error_id="e-1").apology == f"Sorry, this turn failed. {advice} (error e-1)"


@pytest.mark.parametrize("text", ["", "short", "x" * 98, "x" * 500, "\U0001f600" * 60, "\n" * 60, 'a"b' * 40])
def test_a_text_is_cut_no_shorter_than_it_must_be(text: str) -> None:
    cut = clipped(text, 100)
    assert text.startswith(cut)
    assert encoded_bytes(cut) <= 100
    assert cut == text or encoded_bytes(text[: len(cut) + 1]) > 100


def test_decisions_keep_what_was_decided() -> None:
    given = Decision(decision="allow", principal="p", grants=("approve",), reason="r", pattern="git status *", mac="m")
    assert from_wire(Decision, to_wire(given)) == given

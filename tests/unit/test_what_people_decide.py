"""What a person is shown and decides, case by case: patterns, cards, commands, signatures."""

from dataclasses import replace
from typing import Any

import pytest

from agent_session.domain import authority
from agent_session.domain.cards import SPOKEN_CHARS, argument_lines, card, code_of, is_spoken, request_text, visible
from agent_session.domain.commands import command_of
from agent_session.domain.messages import HEARTBEAT, InboundMessage
from agent_session.domain.patterns import AllowedPattern, covers, matches, simple_words, suggested
from agent_session.domain.schedules import (
    TEXT_BYTES,
    BadSchedule,
    Definition,
    When,
    checked_target,
    checked_text,
    definition_from,
    message_of,
    signed,
)
from agent_session.domain.turns import Decision
from agent_session.domain.wire import to_wire


def said(number: int, **more: Any) -> InboundMessage:
    return InboundMessage(id=str(number), channel="test", **{"text": "hi", **more})


# ---- patterns ----


@pytest.mark.parametrize(
    ("command", "words"),
    [("git status -s", ["git", "status", "-s"]), ("a  b", ["a", "b"]), ("", None), (" ", None), ("a\tb", None),
     *((f"a {char} b", None) for char in ";&|<>()$`\\\n*?[]{}~!#^%=\"'")],
)  # fmt: skip
def test_a_simple_command_has_no_more_than_words(command: str, words: list[str] | None) -> None:
    assert simple_words(command) == words


@pytest.mark.parametrize(
    ("pattern", "command", "fits"),
    [
        ("git status", "git status", True), ("git status", "git  status", True), ("git status", "git status -s", False),
        ("git status *", "git status -s", True), ("git status *", "git status", True), ("git *", "git", True),
        ("git status *", "git stash", False), ("git status *", "git status; rm x", False), ("*", "git", False),
        ("", "git", False), ("git", "", False), ("  ", "git", False), ("git s*", "git s*", False),
    ],
)  # fmt: skip
def test_a_pattern_of_commands_matches_word_by_word(pattern: str, command: str, fits: bool) -> None:
    assert matches(pattern, command, is_command=True) is fits


@pytest.mark.parametrize(
    ("pattern", "subject", "fits"),
    [("https://a/", "https://a/", True), ("https://a/*", "https://a/b", True), ("https://a/*", "https://a/", True),
     ("https://a/", "https://a/b", False), ("*", "x", True), ("a*", "b", False), ("", "x", False), ("x", "", False)],
)  # fmt: skip
def test_a_pattern_of_other_subjects_is_exact_or_a_beginning(pattern: str, subject: str, fits: bool) -> None:
    assert matches(pattern, subject, is_command=False) is fits


@pytest.mark.parametrize(
    ("command", "pattern"),
    [("git status -s", "git status *"), ("git status", "git status *"), ("git push origin", "git push origin"),
     ("git run x", "git run x"),
     ("sudo ls x", "sudo ls x"), ("ls", "ls"), ("ls -l", "ls -l"), ("a | b", ""), ("x" * 201, ""),
     ("x" * 200, "x" * 200)],
)  # fmt: skip
def test_a_program_and_its_subcommand_are_offered_where_they_run_nothing_else(command: str, pattern: str) -> None:
    assert suggested(command, is_command=True) == pattern


@pytest.mark.parametrize(
    ("subject", "pattern"), [("https://a/b", "https://a/b"), ("a*", ""), ("a\nb", ""), ("x" * 200, "x" * 200),
                             ("x" * 201, "")]
)  # fmt: skip
def test_other_subjects_are_offered_as_they_are(subject: str, pattern: str) -> None:
    assert suggested(subject, is_command=False) == pattern


@pytest.mark.parametrize(
    ("pattern", "command", "asks"),
    [("git push *", "git push origin", True), ("git push *", "cd x && git  push", True),
     ("git push", "git pull", False), ("git push", "$(x) y", True), ("rm", "ls", False)],
)  # fmt: skip
def test_a_setting_asks_about_whatever_may_be_meant(pattern: str, command: str, asks: bool) -> None:
    assert covers(pattern, command, is_command=True) is asks


def test_a_setting_for_other_tools_is_a_pattern_of_theirs() -> None:
    assert covers("https://a/*", "https://a/b", is_command=False)
    assert not covers("https://a/*", "https://b", is_command=False)


# ---- cards and commands ----


@pytest.mark.parametrize(
    ("text", "shown"),
    [("plain ä", "plain ä"), (r"a\b", r"a\b"), ("a\nb", r"a\nb"), ("a\\\nb", r"a\\\nb"), ("\u202egpj", r"\u202egpj"),
     ("a\u2800b", r"a\u2800b"), ("a\ufe0fb", r"a\ufe0fb"), ("a\U000e0100b", r"a\U000e0100b"), ("\x1b[0m", r"\x1b[0m")],
)  # fmt: skip
def test_nothing_is_hidden_from_who_decides(text: str, shown: str) -> None:
    assert visible(text) == shown


CALL = {"call": "t-1-1-0", "tool": "shell", "digest": "d", "args": '{"command": "a\\nb", "n": 3}', "why": "it asks",
        "pattern": "git status *"}  # fmt: skip


def test_a_card_shows_the_call_whole() -> None:
    assert card(CALL) == "\n".join(
        ["shell  (t-1-1-0)", "    command: a", "           | b", "    n: 3", "  asks because it asks"]
    )
    assert card({"args": "no json\nat all"}) == "  ()\n    no json\n    at all"
    assert argument_lines("") == []
    assert argument_lines("[1]") == ["[1]"]
    assert argument_lines('{"a": {"ä": [1]}}') == ['a: {"ä": [1]}']


def test_a_code_belongs_to_a_call_and_to_what_it_would_do() -> None:
    assert code_of(CALL) == "78c373"
    assert len({code_of(one) for one in (CALL, {**CALL, "digest": "e"}, {**CALL, "call": "t-1-1-1"})}) == 3


def test_a_request_says_how_to_answer_it() -> None:
    code = code_of(CALL)
    assert request_text([CALL], "main") == "\n".join(
        [
            "This waits for a person:",
            card(CALL),
            f"  allow once: /allow {code} · always in this session, git status *: /allow {code} always · "
            f"deny: /deny {code} why",
            "Stop the turn: /stop",
        ]
    )
    plain = {**CALL, "pattern": ""}
    assert request_text([plain], "main").split("\n")[-2] == f"  allow once: /allow {code} · deny: /deny {code} why"
    assert request_text([CALL, plain], "main").startswith("These 2 calls wait for a person:\n")


def test_what_is_too_long_to_be_shown_cannot_be_allowed_with_words() -> None:
    long = {**CALL, "args": '{"command": "%s"}' % ("x" * 6_000)}
    code = code_of(long)
    assert is_spoken(CALL)
    assert not is_spoken(long)
    told = request_text([long, CALL], "main").split("\n")
    assert told[1] == f"shell: too long to be shown here; agent-session approvals list main · deny: /deny {code} why"
    assert card(CALL).split("\n")[0] in told, "a short one behind it is"


def test_calls_share_the_room_that_a_request_has() -> None:
    calls = [
        {**CALL, "call": f"t-1-1-{n}", "args": '{"command": "%s"}' % ("x" * (SPOKEN_CHARS * 2 // 5))} for n in "012"
    ]
    told = request_text(calls, "main")
    assert told.count("  allow once: ") == 2
    assert (
        f"shell: too long to be shown here; agent-session approvals list main · deny: /deny {code_of(calls[2])}" in told
    )


@pytest.mark.parametrize(
    ("text", "command"),
    [("/status", ("status", "")), ("/model  a b ", ("model", "a b")), ("/deny abc why not", ("deny", "abc why not")),
     ("/approve abc", ("allow", "abc")),
     ("/unknown", None), ("status", None), (" /status", None), ("/", None), ("/status\nx", None)],
)  # fmt: skip
def test_a_command_is_a_slash_and_a_known_word(text: str, command: tuple[str, str] | None) -> None:
    assert command_of(said(1, text=text)) == command


def test_only_a_person_commands_and_not_with_files() -> None:
    assert command_of(said(1, text="/stop", kind=HEARTBEAT)) is None
    assert command_of(said(1, text="/stop", attachments=("a 1 b c",))) is None


# ---- signatures ----

KEY = b"k" * 32


def signed_message() -> InboundMessage:
    return authority.sign_message(KEY, "main", said(1, principal="p", grants=("shell",), reply_address="file:x"))


def test_signatures_are_the_same_in_every_version() -> None:
    message = signed_message()
    assert (message.mac, message.reply_mac) == ("e6164f8f50a537ff672e0552a81eb6a1", "4d5a17e6d5bdcbb16eabd1e99b9b30bc")
    given = Decision(decision="allow", principal="p", grants=("approve",))
    assert authority.sign_decision(KEY, "main", "c", "d", given) == "099864a85f06c140425224becd9de3fd"
    assert (
        authority.sign_decision(KEY, "main", "c", "d", replace(given, reason="r")) == "7c32f491f972b14507f73b905d8bde47"
    )
    assert (
        authority.sign_pattern(KEY, "main", AllowedPattern(tool="t", pattern="x", principal="p")).mac
        == "cfe21499a833ca13aa5da4ad22d697fd"
    )


@pytest.mark.parametrize(
    ("field", "other"),
    [("id", "2"), ("channel", "x"), ("principal", "q"), ("grants", ("approve",)), ("text", "ho"), ("text_ref", "f"),
     ("reply_address", "file:y"), ("attachments", ("a",)), ("mac", "0" * 32)],
)  # fmt: skip
def test_a_message_that_was_changed_is_not_signed(field: str, other: Any) -> None:
    message = signed_message()
    assert authority.message_is_signed(KEY, "main", message)
    assert not authority.message_is_signed(KEY, "main", replace(message, **{field: other}))


def test_a_signature_is_of_one_session_and_one_key() -> None:
    message = signed_message()
    assert not authority.message_is_signed(KEY, "other", message)
    assert not authority.message_is_signed(b"other", "main", message)
    assert authority.place_is_signed(KEY, "main", "file:x", message.reply_mac)
    assert not authority.place_is_signed(KEY, "main", "file:y", message.reply_mac)
    assert authority.sign_message(KEY, "main", said(1)).reply_mac == ""


@pytest.mark.parametrize("field", ["decision", "principal", "grants", "reason", "pattern"])
def test_a_decision_that_was_changed_is_not_signed(field: str) -> None:
    given = Decision(decision="allow", principal="p", grants=("approve",), reason="r", pattern="x")
    signed = replace(given, mac=authority.sign_decision(KEY, "main", "c", "d", given))
    assert authority.decision_is_signed(KEY, "main", "c", "d", signed)
    assert not authority.decision_is_signed(KEY, "main", "c", "e", signed)
    changed_one = replace(signed, **{field: ("shell",) if field == "grants" else "changed"})
    assert not authority.decision_is_signed(KEY, "main", "c", "d", changed_one)


@pytest.mark.parametrize("field", ["tool", "pattern", "principal", "confinement", "mac"])
def test_a_pattern_that_was_changed_is_not_signed(field: str) -> None:
    signed = authority.sign_pattern(KEY, "main", AllowedPattern(tool="t", pattern="x", principal="p"))
    assert authority.pattern_is_signed(KEY, "main", signed)
    assert not authority.pattern_is_signed(KEY, "main", replace(signed, **{field: "changed"}))


# ---- schedules ----

STANDUP = Definition(session="main", name="standup", text="what is open?", when=When(cron="0 9 * * 1-5"))


def test_a_schedules_signature_is_the_same_in_every_version_and_covers_all_of_it() -> None:
    signed_one = signed(KEY, STANDUP)
    assert signed_one.mac == "5a2f7753d93061d4164bf4314748e4b7"
    assert definition_from(KEY, to_wire(signed_one)) == signed_one
    assert definition_from(b"other", to_wire(signed_one)) is None
    for change in ({"text": "rm -rf"}, {"target": "file:x"}, {"isolated": True}, {"when": {"every_s": 1}}, {"mac": ""}):
        assert definition_from(KEY, {**to_wire(signed_one), **change}) is None
    assert definition_from(KEY, {name: one for name, one in to_wire(signed_one).items() if name != "mac"}) is None


def test_words_and_targets_of_a_schedule_are_taken_or_refused_with_the_reason() -> None:
    most = "ä" * (TEXT_BYTES // 2)
    assert checked_text(most) == most
    for text, told in (
        (most + "x", f"the words are {TEXT_BYTES + 1} bytes long: the limit is {TEXT_BYTES}"),
        (" \n", "the schedule has no words: say what the session is to be told"),
    ):
        with pytest.raises(BadSchedule) as refused:
            checked_text(text)
        assert str(refused.value) == told
    assert checked_text("a\ud800") == "a?"
    assert [checked_target(one) for one in ("last", "none", "file:notes")] == ["last", "none", "file:notes"]
    with pytest.raises(BadSchedule) as refused:
        checked_target("nowhere")
    assert str(refused.value) == "'nowhere' is no target: use last, none, or a channel and a place, like file:notes"


def test_an_occurrence_is_one_message_and_a_one_shot_is_one_for_ever() -> None:
    signed_one = signed(KEY, STANDUP)
    assert message_of(signed_one, "2026-12-01T09:00") == f"standup@2026-12-01T09:00/{signed_one.mac[:8]}"
    once = signed(KEY, replace(STANDUP, when=When(at_s=1)))
    assert message_of(once, "now") == message_of(once, "later") == f"standup@once/{once.mac[:8]}"

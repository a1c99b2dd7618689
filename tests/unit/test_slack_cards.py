"""Cards: what a person reads before deciding, and what a press of a button means."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.slack import cards
from channels.slack.cards import Choice, calls_of_card, card_blocks, choice_of, decided, encode, still_asks

TURN = "t-0123456789abcdef"


def call(index: int = 0, step: int = 1, **more: str) -> dict[str, str]:
    given = {"call": f"{TURN}-{step}-{index}", "tool": "shell", "args": json.dumps({"command": f"ls {index}"})}
    return {**given, "digest": f"{index:08d}" * 8, "why": "it runs a command", "pattern": "ls *", **more}


def buttons(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for block in blocks if block["type"] == "actions" for one in block["elements"]]


def said(blocks: list[dict[str, Any]]) -> str:
    return json.dumps(blocks, ensure_ascii=False)


def test_a_card_says_what_why_and_where_and_offers_three_answers() -> None:
    blocks = card_blocks([call()], "main")
    text = said(blocks)
    assert all(word in text for word in ("shell", "command: ls 0", "it runs a command", "main"))
    assert [one["text"]["text"] for one in buttons(blocks)] == ["Allow once", "Always for this session", "Deny"]
    assert "ls *" in json.dumps(buttons(blocks)[1]["confirm"]), "what would always be allowed is said before"


def test_a_button_says_session_call_digest_and_decision() -> None:
    once, always, deny = (choice_of(one["action_id"], one["value"]) for one in buttons(card_blocks([call()], "main")))
    mine = {"session": "main", "call": call()["call"], "digest": call()["digest"]}
    assert once == Choice(**mine, decision="allow")
    assert always == Choice(**mine, decision="allow", pattern="ls *")
    assert deny == Choice(**mine, decision="deny")


def test_without_a_pattern_there_is_no_always() -> None:
    blocks = card_blocks([call(pattern="")], "main")
    assert [one["text"]["text"] for one in buttons(blocks)] == ["Allow once", "Deny"]


def test_what_is_not_shown_whole_cannot_be_allowed() -> None:
    blocks = card_blocks([call(args=json.dumps({"command": "x" * 7_000}))], "main")
    assert [one["text"]["text"] for one in buttons(blocks)] == ["Deny"]
    assert "agent-session approvals list main" in said(blocks)


def test_nothing_in_a_call_is_markup_or_hidden() -> None:
    hostile = call(
        tool="shell*`<!here>", args=json.dumps({"command": "```\n<!channel> \u202eabc *x*"}), why="<@U1> & `x`"
    )
    blocks = card_blocks([hostile], "main`<!here>")
    for block in blocks:
        if block["type"] == "section":
            assert "<" not in block["text"]["text"]
    shown = next(block for block in blocks if block["type"] == "rich_text")
    assert "\\u202e" in shown["elements"][0]["elements"][0]["text"]


@given(st.integers(1, 64), st.integers(0, 3_000))
def test_a_card_keeps_slacks_limits(count: int, length: int) -> None:
    calls = [call(index, args=json.dumps({"command": "&" * length}), why="&" * 900) for index in range(count)]
    blocks = card_blocks(calls, "k" * 200)
    assert len(blocks) <= 50
    assert all(len(one["value"]) <= 2_000 for one in buttons(blocks))
    assert all(0 < len(block["text"]["text"]) <= 3_000 for block in blocks if block["type"] == "section")
    shown = len({block["block_id"] for block in blocks if block["type"] == "actions"})
    assert 1 <= shown <= cards.CALLS
    assert shown == 1 or len(json.dumps(blocks, ensure_ascii=False)) <= cards.BLOCKS_CHARS + 1_000, "head and tail"
    assert shown == count or f"and {count - shown} more: " in blocks[-1]["elements"][0]["text"]


def test_a_value_that_is_too_long_for_slack_is_not_offered() -> None:
    blocks = card_blocks([call(pattern="é" * 2_100)], "main")
    assert [one["text"]["text"] for one in buttons(blocks)] == ["Allow once", "Deny"]


@pytest.mark.parametrize(
    "value", ["", "x", "{}", "[]", '["a"]', '["a","b"]', '["a","b",1]', '["a","b","c","d","e"]', "null"]
)
def test_a_value_that_is_not_ours_is_no_choice(value: str) -> None:
    assert choice_of(cards.ONCE_ACTION, value) is None
    assert choice_of("another_action", encode(Choice(session="s", call="c", digest="d", decision="allow"))) is None


def test_a_pattern_belongs_to_the_button_that_says_always() -> None:
    wide = encode(Choice(session="s", call="c", digest="d", decision="allow", pattern="*"))
    assert choice_of(cards.ONCE_ACTION, wide) is None
    assert choice_of(cards.DENY_ACTION, wide) is None
    assert choice_of(cards.ALWAYS_ACTION, wide) is not None


@given(st.text(), st.text(), st.text(), st.text(min_size=1))
def test_a_choice_comes_back_as_it_was(session: str, name: str, digest: str, pattern: str) -> None:
    choice = Choice(session=session, call=name, digest=digest, decision="allow", pattern=pattern)
    assert choice_of(cards.ALWAYS_ACTION, encode(choice)) == choice


def test_who_decided_stands_in_place_of_that_calls_buttons() -> None:
    message = {"text": "words", "blocks": card_blocks([call(0), call(1)], "main")}
    choice = choice_of(cards.ONCE_ACTION, buttons(message["blocks"])[0]["value"])
    assert choice is not None
    assert still_asks(message, choice)
    new = decided(message, "U1", choice)
    assert "Allowed once* by <@U1>" in said(new["blocks"])
    assert len(buttons(new["blocks"])) == 3, "the other call's"
    assert not still_asks(new, choice)
    assert decided(new, "U2", choice) == new, "the first press stands"


def test_a_name_that_is_no_user_id_is_shown_as_words() -> None:
    message = {"text": "words", "blocks": card_blocks([call()], "main")}
    choice = Choice(session="main", call=call()["call"], digest=call()["digest"], decision="deny")
    assert "<!channel>" not in said(decided(message, "<!channel>", choice)["blocks"])


def test_a_card_is_about_the_calls_of_its_step_only() -> None:
    calls = [call(0, step=1), call(0, step=2), call(1, step=2)]
    assert calls_of_card(calls, f"{TURN}-2-card") == calls[1:]
    assert calls_of_card(calls, f"{TURN}-2-1-{calls[2]['digest'][:8]}") == calls[2:]
    assert calls_of_card(calls, f"{TURN}-2-1-ffffffff") == [], "it asks for something else by now"
    assert calls_of_card(calls, f"{TURN}-3-card") == []

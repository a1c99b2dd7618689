"""Requests for a decision, as a card with buttons: what would run, why it asks, in which session.

Pure. What is not shown whole cannot be allowed here. A button's value names session, call and digest, so that a
press decides on exactly what was shown; whether that person may decide is not known here.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from agent_session.domain.authority import ALLOW, DENY
from agent_session.domain.cards import SPOKEN_CHARS, argument_lines, card, code_of, visible
from channels.slack.mrkdwn import escape

ONCE_ACTION, ALWAYS_ACTION, DENY_ACTION = "agent_session_allow", "agent_session_always", "agent_session_deny"
ACTIONS = (ONCE_ACTION, ALWAYS_ACTION, DENY_ACTION)
VALUE_CHARS = 2_000  #: Slack's limit
CALLS = 12  #: on one card: Slack takes 50 blocks
BLOCKS_CHARS = 10_000  #: of one card as JSON: Slack's limit for all blocks of a message is not documented, some 13,000
NAME_CHARS, WHY_CHARS, TEXT_CHARS = 80, 300, 2_900
_OF_STEP = re.compile(r"(?P<step>t-[0-9a-f]{16}-\d+)-(?:card|(?P<index>\d+)-(?P<digest>[0-9a-f]{8}))\Z")
_USER = re.compile(r"[UW][A-Z0-9]{1,30}\Z")
Block = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a press of a button says."""

    session: str
    call: str
    digest: str  #: of what would run
    decision: str  #: `allow` or `deny`
    pattern: str = ""  #: with *always*: calls like it, for the session


def calls_of_card(calls: Sequence[Mapping[str, str]], reply: str) -> list[Mapping[str, str]]:
    """Those of the waiting calls that the card named `reply` is about."""
    named = _OF_STEP.match(reply)
    if named is None:
        return list(calls)
    if named["index"] is not None:
        name, digest = f"{named['step']}-{named['index']}", named["digest"]
        return [call for call in calls if call["call"] == name and call["digest"].startswith(digest)]
    return [call for call in calls if call["call"].rpartition("-")[0] == named["step"]]


def card_blocks(calls: Sequence[Mapping[str, str]], session: str) -> list[Block]:
    """The card for calls as `SessionClient.waiting_calls` gives them; at least one."""
    head = "This waits for a decision:" if len(calls) == 1 else f"These {len(calls)} calls wait for a decision:"
    blocks: list[Block] = [_section(f"*{head}*  session `{_word(session)}`")]
    words, room, there = SPOKEN_CHARS, BLOCKS_CHARS, 0
    for call in calls[:CALLS]:
        shown = len(card(call))
        made = _call_blocks(call, session, whole=shown <= words)
        if shown <= words and _size(made) > room:
            made, shown = _call_blocks(call, session, whole=False), words + 1
        if there and _size(made) > room:
            break
        blocks += made
        words -= shown if shown <= words else 0
        room -= _size(made)
        there += 1
    if len(calls) > there:
        blocks.append(_context(f"and {len(calls) - there} more: {_list_of(session)}"))
    return blocks


def note(owners: Sequence[str], session: str) -> Block:
    """Who may decide, for a card whose reader may not. `owners`: Slack user ids."""
    named = ", ".join(f"<@{owner}>" for owner in owners if _USER.match(owner))
    who = f"{named} may decide on this, here or with" if named else "Nobody may decide on this in Slack; on its host:"
    return _context(f"{who} {_list_of(session)}")


def _size(blocks: Sequence[Block]) -> int:
    return len(json.dumps(blocks, ensure_ascii=False))


def _context(text: str) -> Block:
    return {"type": "context", "elements": [{"type": "mrkdwn", "text": text}]}


def _list_of(session: str) -> str:
    return f"`agent-session approvals list {_word(session)}`"


def _call_blocks(call: Mapping[str, str], session: str, *, whole: bool) -> list[Block]:
    why = visible(call.get("why", ""))[:WHY_CHARS]
    what = f"*{escape(visible(call['tool'])[:NAME_CHARS])}*  (`{code_of(call)}`)"
    if why:
        what += f"\nasks because {escape(why)}"
    if not whole:
        what += f"\ntoo long to be shown here: {_list_of(session)}"
    blocks = [_section(what)]
    if whole and (lines := "\n".join(argument_lines(call.get("args", "")))):
        said = {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": lines}]}
        blocks.append({"type": "rich_text", "elements": [said]})
    buttons = _buttons(call, session, whole=whole)
    return [*blocks, {"type": "actions", "block_id": block_id(call["call"], call["digest"]), "elements": buttons}]


def _buttons(call: Mapping[str, str], session: str, *, whole: bool) -> list[Block]:
    choice = Choice(session=session, call=call["call"], digest=call["digest"], decision=ALLOW)
    found: list[Block] = []
    if whole:
        found.append(_button(ONCE_ACTION, "Allow once", encode(choice), style="primary"))
        pattern = call.get("pattern", "")
        always = encode(replace(choice, pattern=pattern)) if pattern else ""
        if 0 < len(always) <= VALUE_CHARS:
            confirm = {
                "title": {"type": "plain_text", "text": "Always for this session"},
                "text": {"type": "plain_text", "text": f"Calls like this run without asking: {visible(pattern)}"[:300]},
                "confirm": {"type": "plain_text", "text": "Allow"},
                "deny": {"type": "plain_text", "text": "Cancel"},
            }
            found.append({**_button(ALWAYS_ACTION, "Always for this session", always), "confirm": confirm})
    return [*found, _button(DENY_ACTION, "Deny", encode(choice), style="danger")]


def _button(action: str, label: str, value: str, **more: str) -> Block:
    text = {"type": "plain_text", "text": label}
    return {"type": "button", "action_id": action, "text": text, "value": value, **more}


def _section(text: str) -> Block:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text[:TEXT_CHARS]}}


def _word(text: str) -> str:
    return escape(visible(text).replace("`", "ˋ"))


def block_id(call: str, digest: str) -> str:
    """Of the buttons for this very request."""
    return "agent_session:" + hashlib.sha256(f"{call} {digest}".encode()).hexdigest()[:24]


def encode(choice: Choice) -> str:
    """A button's value."""
    fields = [choice.session, choice.call, choice.digest, *([choice.pattern] if choice.pattern else [])]
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def choice_of(action_id: str, value: str) -> Choice | None:
    """What a button says; None for one that is not ours, or unreadable."""
    try:
        found: Any = json.loads(value)
    except ValueError:
        return None
    fields = cast(list[Any], found) if isinstance(found, list) else []
    if action_id not in ACTIONS or not 3 <= len(fields) <= 4 or not all(isinstance(one, str) for one in fields):
        return None
    session, call, digest, *rest = cast(list[str], fields)
    if (action_id == ALWAYS_ACTION) != bool(rest):
        return None
    decision = DENY if action_id == DENY_ACTION else ALLOW
    return Choice(session=session, call=call, digest=digest, decision=decision, pattern=rest[0] if rest else "")


def decided(card_message: Mapping[str, Any], who: str, choice: Choice) -> dict[str, Any]:
    """The card's new `text` and `blocks` for `chat.update`: in place of the buttons of that call stands who decided
    what. The other calls keep theirs. `who`: a Slack user id, or a name."""
    name = f"<@{who}>" if _USER.match(who) else escape(visible(who))
    words = f"🚫 *Denied* by {name}" if choice.decision == DENY else f"✅ *Allowed once* by {name}"
    if choice.decision == ALLOW and choice.pattern:
        words = f"✅ *Allowed for this session* by {name}: `{_word(choice.pattern)}`"
    said = _context(words[:TEXT_CHARS])
    mine = block_id(choice.call, choice.digest)
    blocks = cast(list[Block], card_message.get("blocks") or [])
    kept = [said if block.get("block_id") == mine and block.get("type") == "actions" else block for block in blocks]
    return {"text": str(card_message.get("text", "")) or words, "blocks": kept}


def still_asks(card_message: Mapping[str, Any], choice: Choice) -> bool:
    """Whether the card still has the buttons of that call."""
    mine = block_id(choice.call, choice.digest)
    blocks = cast(list[Block], card_message.get("blocks") or [])
    return any(block.get("block_id") == mine and block.get("type") == "actions" for block in blocks)

"""What watchers are told of a turn, in one place. Never durable; says nothing that the transcript lacks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agent_session.domain.turns import ASK
from agent_session.live.events import APPROVAL, TURN_ENDED, TURN_STARTED, LiveEvent
from agent_session.live.publisher import Live
from agent_session.transcript.lines import Line
from agent_session.transcript.recorder import Words

SHOWN_CHARS = 4_000  #: of words, arguments and output
REPLY_CHARS = 64 * 1024


def tell_turn_started(live: Live, begun: LiveEvent, words: list[Words]) -> None:
    """Other terminals show what was said here."""
    for one in words:
        sender = str(one.fields.get("sender") or one.fields.get("principal") or "")
        where = str(one.fields.get("channel", ""))
        started = replace(begun, kind=TURN_STARTED, text=one.content[:SHOWN_CHARS], sender=sender, note=where)
        live.publish(replace(started, call=one.scoped))


def tell_approvals(live: Live, begun: LiveEvent, calls: list[Line]) -> None:
    """A card for each call that waits for a person."""
    for call in calls:
        if call.get("verdict") == ASK:
            asks = replace(begun, kind=APPROVAL, tool=str(call["name"]), call=str(call["id"]))
            live.publish(replace(asks, text=str(call["args"])[:SHOWN_CHARS], note=str(call.get("why", ""))))


def tell_turn_ended(
    live: Live, begun: LiveEvent, ended: Line, text: str, spent: Mapping[str, Any], model: str = ""
) -> None:
    """How it ended, with the reply and what the turn has cost."""
    outcome = str(ended.get("outcome", ""))
    live.publish(
        replace(
            begun,
            kind=TURN_ENDED,
            outcome=outcome,
            text=(text if outcome == "answered" else str(ended.get("content", "")))[:REPLY_CHARS],
            note=str(ended.get("error_id", "")),
            model=model,
            input_tokens=int(spent.get("input_tokens", 0)),
            output_tokens=int(spent.get("output_tokens", 0)),
            cached_tokens=int(spent.get("cached_tokens", 0)),
            cost_microusd=int(spent.get("cost_microusd", 0)),
        )
    )

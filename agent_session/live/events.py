"""What a watcher sees while a turn runs. One flat shape, so that old watchers read new events."""

from dataclasses import dataclass

import orjson

from agent_session.domain.wire import from_wire, to_wire

STEP = "step"  #: a model call begins
DELTA = "delta"  #: a piece of the answer
RETRY = "retry"  #: the attempt was thrown away: discard the deltas of this step; `text` says why and when
TOOL_STARTED, TOOL_OUTPUT, TOOL_FINISHED = "tool_started", "tool_output", "tool_finished"
APPROVAL = "approval"  #: a call waits for a person
TURN_ENDED = "turn_ended"
DROPPED = "dropped"  #: this watcher was too slow and missed what came; the transcript has it all


@dataclass(frozen=True, kw_only=True)
class LiveEvent:
    session: str
    kind: str
    turn: str = ""
    n: int = 0
    step: int = 0
    text: str = ""
    tool: str = ""
    call: str = ""
    outcome: str = ""


def encode(event: LiveEvent) -> bytes:
    return orjson.dumps(to_wire(event), option=orjson.OPT_APPEND_NEWLINE)


def decode(raw: bytes) -> LiveEvent | None:
    """An event, or None for a line that is none."""
    try:
        event = from_wire(LiveEvent, orjson.loads(raw))
    except orjson.JSONDecodeError:
        return None
    return event if event.session and event.kind else None

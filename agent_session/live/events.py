"""What a watcher sees while a turn runs. One flat shape, so that old watchers read new events."""

from dataclasses import dataclass, fields
from typing import Any, cast

import orjson

TURN_STARTED = "turn_started"  #: `text`: what was said, `sender` by whom, `note` where, `call` the message's
#: scoped id (a retried attempt says it again)
STEP = "step"  #: a model call begins
DELTA = "delta"  #: a piece of the answer
RETRY = "retry"  #: the attempt was thrown away: discard the deltas of this step; `text` says why and when
TOOL_STARTED, TOOL_OUTPUT, TOOL_FINISHED = "tool_started", "tool_output", "tool_finished"
APPROVAL = "approval"  #: a call waits for a person: `text` its arguments, `note` why it asks
TURN_ENDED = "turn_ended"  #: `text`: the reply, when it was answered; `note`: the error id of a failure
DROPPED = "dropped"  #: this watcher was too slow, or a worker had to give events up; the transcript has it all


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
    note: str = ""
    sender: str = ""
    model: str = ""  #: which answered, with `turn_ended`
    ms: int = 0  #: how long a finished tool took
    input_tokens: int = 0  #: of the whole turn, with `turn_ended`
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_microusd: int = 0


NAMELESS: dict[str, Any] = {"session": "", "kind": ""}
TYPES: dict[str, type] = {field.name: cast(type, field.type) for field in fields(LiveEvent)}


def encode(event: LiveEvent) -> bytes:
    """A line of JSON without the fields that are empty. Half a surrogate pair, as a stream may be cut, becomes a
    question mark."""
    wire = {name: value for name, value in vars(event).items() if value}
    try:
        return orjson.dumps(wire, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        whole = {name: _whole(value) for name, value in wire.items()}
        return orjson.dumps(whole, option=orjson.OPT_APPEND_NEWLINE)


def decode(raw: bytes) -> LiveEvent | None:
    """An event, or None for a line that is none. A field that is unknown, or of another type, is left out."""
    try:
        given = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(given, dict):
        return None
    wire = cast(dict[str, Any], given)
    event = LiveEvent(**NAMELESS | {name: value for name, value in wire.items() if type(value) is TYPES.get(name)})
    return event if event.session and event.kind else None


def _whole(value: str | int) -> str | int:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value

"""One line of a transcript: a JSON object, described in docs/history-format.md.

A line's *key* says what it records, so that writing it again finds it there (I4, I5). Readers ignore
unknown fields and skip lines that are not JSON objects.
"""

from datetime import UTC, datetime
from typing import Any, cast

import orjson

Line = dict[str, Any]

USER, ASSISTANT, TOOL, EVENT = "user", "assistant", "tool", "event"
STARTED, ENDED, GAP, COMPACTION, APPROVAL, NOTE = "started", "ended", "gap", "compaction", "approval", "note"
NEW, MODEL = "new", "model"  #: the talk begins anew; a person chose a model


def user_line(turn: str, scoped: str, content: str, **fields: Any) -> Line:
    return {"turn": turn, "role": USER, "id": scoped, "content": content, **fields}


def event_line(turn: str, event: str, **fields: Any) -> Line:
    return {"turn": turn, "role": EVENT, "event": event, **fields}


def result_line(turn: str, call: str, outcome: str, content: str, **fields: Any) -> Line:
    """`outcome`: ok, error, interrupted, cancelled, refused or denied."""
    return {"turn": turn, "role": TOOL, "call": call, "outcome": outcome, "content": content, **fields}


def key_of(line: Line) -> str:
    """What the line records. Lines with the same key are the same fact."""
    role = line.get("role")
    if role == USER:
        return user_key(str(line.get("turn")), str(line.get("id")))
    if role == ASSISTANT:
        return answer_key(str(line.get("turn")), int(line.get("step", 0)))
    if role == TOOL:
        return result_key(str(line.get("call")))
    event = line.get("event")
    if event == STARTED:
        return started_key(str(line.get("call")))
    if event == ENDED:
        return ended_key(str(line.get("turn")))
    return f"x/{event}/{line.get('turn')}/{line.get('call', line.get('to', ''))}"


def user_key(turn: str, scoped: str) -> str:
    return f"u/{turn}/{scoped}"


def answer_key(turn: str, step: int) -> str:
    return f"a/{turn}/{step}"


def result_key(call: str) -> str:
    return f"r/{call}"


def started_key(call: str) -> str:
    return f"s/{call}"


def ended_key(turn: str) -> str:
    return f"e/{turn}"


def calls_of(line: Line) -> list[Line]:
    """The tool calls of an assistant line."""
    return line.get("tool_calls") or []


def encode(line: Line, seq: int, n: int) -> bytes:
    """The line as it stands in the file, with the newline that makes it whole."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    whole = {"v": 1, "seq": seq, "turn": line.get("turn", ""), "n": n, **line, "at": at}
    try:
        return orjson.dumps(whole, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # a lone surrogate, which UTF-8 cannot hold
        return orjson.dumps(_printable(whole), option=orjson.OPT_APPEND_NEWLINE)


def decode(raw: bytes) -> Line | None:
    """A whole line as an object, or None when it is not one."""
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(line, dict) or not isinstance(cast(Line, line).get("seq"), int):
        return None
    return cast(Line, line)


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_printable(k): _printable(v) for k, v in cast(Line, value).items()}
    if isinstance(value, list | tuple):
        return [_printable(one) for one in cast(list[Any], value)]
    return value

"""What travels in headers of Temporal's calls: JSON, small, never words."""

import json
from collections.abc import Mapping
from typing import Any, cast

from temporalio.api.common.v1 import Payload

MESSAGE = "agent-session"  #: of signals and starts: when a message was sent, and its span
CARRIED = "agent-session-story"  #: of a roll-over
TURN = "agent-session-turn"  #: of a turn's activities
SESSIONS = ("AgentSessionWorkflow", "AgentTurnWorkflow")
RECEIVE = "receive"  #: the signal that brings a message

Headers = Mapping[str, Payload]
Raw = Mapping[str, Any]


def packed(value: Any) -> Payload:
    return Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(value, separators=(",", ":")).encode())


def unpacked(headers: Headers, name: str) -> dict[str, Any]:
    """What a header holds; nothing of what cannot be read."""
    try:
        found: Any = json.loads(headers[name].data)
    except (KeyError, ValueError):
        return {}
    return mapping(found)


def mapping(value: object) -> dict[str, Any]:
    """The value, if it is one; else an empty one."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}

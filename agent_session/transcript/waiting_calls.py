"""The tool calls that wait for a person, with what they would do: the workflow knows which, the
transcript knows what."""

from agent_session.domain.status import Status
from agent_session.transcript.lines import calls_of
from agent_session.transcript.reader import backwards
from agent_session.transcript.volume import Volume


def waiting_calls(volume: Volume, key: str, status: Status) -> list[dict[str, str]]:
    """In the model's order, each with call, tool, args, digest (what a decision is bound to), why it asks,
    and the pattern to offer, if any. Errors: VolumeUnavailable."""
    asking = {tool.call: tool for tool in status.tools if tool.state == "asks"}
    found: dict[str, dict[str, str]] = {}
    for line in backwards(volume, key) if asking else ():
        for call in calls_of(line):
            name = str(call["id"])
            if name in asking and name not in found:
                found[name] = {
                    "call": name,
                    "tool": str(call["name"]),
                    "args": str(call["args"]),
                    "digest": asking[name].digest,
                    "why": str(call.get("why", "")),
                    "pattern": str(call.get("pattern", "")),
                }
        if line.get("turn") != status.turn:
            break
    return list(found.values())

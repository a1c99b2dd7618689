"""What a person reads before deciding on a tool call: the whole of it, with nothing hidden.

Pure. Control and bidirectional characters are made visible, so that what is shown is what would run.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

SHOWN_CHARS = 3_000  #: of one call; longer ones say where the rest is


def visible(text: str) -> str:
    """The text with every character that is not printable, newlines too, as an escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def arguments_shown(args: str) -> str:
    """The arguments for a person: a single text as it is, several as `name: value`, one a line."""
    try:
        parsed: Any = json.loads(args or "{}")
    except ValueError:
        return visible(args)
    if not isinstance(parsed, dict):
        return visible(args)
    given = cast(dict[str, Any], parsed)
    values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    if len(values) == 1:
        return "\n".join(visible(line) for line in next(iter(values.values())).split("\n"))
    return "\n".join(f"{name}: {visible(value)}" for name, value in values.items())


def card(call: Mapping[str, str]) -> str:
    """One call that waits: `call` has tool, args, call, why and pattern."""
    shown = arguments_shown(call.get("args", ""))
    if len(shown) > SHOWN_CHARS:
        shown = f"{shown[:SHOWN_CHARS]}\n… {len(shown) - SHOWN_CHARS} characters more, in the transcript"
    lines = [f"{visible(call.get('tool', ''))}  ({call.get('call', '')})"]
    lines += [f"    {line}" for line in shown.split("\n")]
    if call.get("why"):
        lines.append(f"  asks because {visible(call['why'])}")
    return "\n".join(lines)


def request_text(calls: Sequence[Mapping[str, str]]) -> str:
    """What waits, and how to allow, deny or stop, for a place where one answers with words."""
    head = "This waits for a person:" if len(calls) == 1 else f"These {len(calls)} calls wait for a person:"
    lines = [head, *(card(call) for call in calls)]
    name = "" if len(calls) == 1 else " CALL"
    pattern = next((call["pattern"] for call in calls if call.get("pattern")), "")
    always = f" · always in this session: /allow{name} always {pattern}" if pattern else ""
    lines.append(f"Allow once: /allow{name}{always} · deny: /deny{name} why · stop the turn: /stop")
    return "\n".join(lines)

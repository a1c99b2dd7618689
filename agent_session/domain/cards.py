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


def arguments(args: str) -> dict[str, Any] | None:
    """A call's arguments, or None for what is no JSON object (cut off, or the model's slip)."""
    try:
        found: Any = json.loads(args or "{}")
    except ValueError:
        return None
    return cast(dict[str, Any], found) if isinstance(found, dict) else None


def argument_lines(args: str) -> list[str]:
    """A call's arguments whole, a line or more each, with nothing hidden in them."""
    found = arguments(args)
    if found is None:
        return [visible(line) for line in args.split("\n")]
    lines: list[str] = []
    for name, value in found.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        first, *rest = text.split("\n")
        lines.append(f"{visible(name)}: {visible(first)}")
        lines += [f"{' ' * len(name)}| {visible(line)}" for line in rest]
    return lines


def card(call: Mapping[str, str]) -> str:
    """One call that waits: `call` has tool, args, call, why and pattern."""
    shown = "\n".join(argument_lines(call.get("args", "")))
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

"""What a person reads before deciding on a tool call: the whole of it, with nothing hidden.

Pure. Control and bidirectional characters are made visible, so that what is shown is what would run.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

#: printable by Unicode's word, yet nothing to be seen
BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
CODE_CHARS = 6
SPOKEN_CHARS = 6_000  #: what a card may hold where it is answered with words; a longer call is decided by command


def visible(text: str) -> str:
    """The text with every character that cannot be seen, newlines too, as an escape; then backslashes are
    doubled, so that an escape is told from what looks like one."""
    if all(map(_can_be_seen, text)):
        return text
    escaped = text.replace("\\", "\\\\")
    return "".join(char if _can_be_seen(char) else char.encode("unicode_escape").decode() for char in escaped)


def _can_be_seen(char: str) -> bool:
    selects_a_variant = "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
    return char.isprintable() and char not in BLANK and not selects_a_variant


def code_of(call: Mapping[str, str]) -> str:
    """A short name for one request: of this call and of exactly what would run, so that words said for one
    request never decide on another."""
    return hashlib.sha256(f"{call['call']} {call['digest']}".encode()).hexdigest()[:CODE_CHARS]


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
    """One call that waits, whole: `call` has tool, args, call and why."""
    lines = [f"{visible(call.get('tool', ''))}  ({call.get('call', '')})"]
    lines += [f"    {line}" for line in argument_lines(call.get("args", ""))]
    if call.get("why"):
        lines.append(f"  asks because {visible(call['why'])}")
    return "\n".join(lines)


def is_spoken(call: Mapping[str, str]) -> bool:
    """Whether the call is short enough to be decided with words: what is not shown whole is not allowed so."""
    return len(card(call)) <= SPOKEN_CHARS


def request_text(calls: Sequence[Mapping[str, str]], key: str) -> str:
    """What waits, and how to allow, deny or stop, for a place where one answers with words."""
    head = "This waits for a person:" if len(calls) == 1 else f"These {len(calls)} calls wait for a person:"
    lines = [head]
    room = SPOKEN_CHARS
    for call in calls:
        shown, code = card(call), code_of(call)
        if len(shown) > room:
            shown = f"{visible(call['tool'])}: too long to be shown here; agent-session approvals list {key}"
            lines.append(f"{shown} · deny: /deny {code} why")
            continue
        room -= len(shown)
        always = f" · always in this session, {call['pattern']}: /allow {code} always" if call.get("pattern") else ""
        lines += [shown, f"  allow once: /allow {code}{always} · deny: /deny {code} why"]
    return "\n".join([*lines, "Stop the turn: /stop"])

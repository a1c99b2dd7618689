"""Text that came from elsewhere, made safe to show in a terminal. Pure.

What a model, a tool or another person wrote must never move the cursor, retitle the window or hide what
would run.
"""

import json
import re

from agent_session.domain.cards import arguments, visible

ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # and what reorders a line
MAIN_ARGUMENTS = ("command", "path", "url", "query", "text", "name")


def clean(text: str) -> str:
    """Lines without escape sequences and with other control characters made visible; newlines and tabs stay."""
    text = ESCAPE_SEQUENCE.sub("", text.replace("\r\n", "\n"))
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shortened(text: str, width: int, dots: str = "…") -> str:
    """At most `width` characters on one line."""
    text = visible(" ".join(text.split()))
    return text if len(text) <= width else text[: max(0, width - len(dots))] + dots[: max(0, width)]


def summary(args: str) -> str:
    """A call's arguments in a few words: the command, the path."""
    found = arguments(args)
    if not found:
        return "" if found == {} else args
    for name in (*MAIN_ARGUMENTS, *found):
        if isinstance(found.get(name), str) and found[name]:
            return str(found[name])
    return json.dumps(found, ensure_ascii=False)


def seconds(ms: float) -> str:
    """How long something took: 0.3 s, 42 s, 2:05 min."""
    if ms < 10_000:
        return f"{ms / 1000:.1f} s"
    whole = int(ms // 1000)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02} min"

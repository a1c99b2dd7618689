"""HEARTBEAT.md: what a session is to look after by itself, and whether a person has approved its very words."""

import hashlib
import re
from pathlib import Path
from shlex import quote

from agent_session.domain.beats import OK
from agent_session.paths import folder, read_regular
from agent_session.scheduled.schedules_when import local

FILE = "HEARTBEAT.md"
CONTENT_BYTES = 16 * 1024  #: it stands in the transcript once a beat
#: a heading, an empty item, a rule, a fence
NOTHING = re.compile(r"(#.*|[-*+]?\s*(\[[ xX]?\])?|[-=*_]{2,}|[`~]{3,}\w*)\Z")
COMMENT, COMMENT_END = "<!--", "-->"


def read_content(workspace: Path) -> bytes:
    """Empty where there is none. Errors: UnsafePath (a link), TooLarge, OSError."""
    try:
        with folder(workspace) as handle:
            return read_regular(handle, FILE, CONTENT_BYTES)
    except FileNotFoundError:
        return b""


def has_something(content: bytes) -> bool:
    """More than headings, blank lines, empty list items and comments."""
    text = _without_comments(content.decode("utf-8", "replace"))
    return any(not NOTHING.match(line.strip()) for line in text.splitlines())


def _without_comments(text: str) -> str:
    kept: list[str] = []
    while True:
        before, found, rest = text.partition(COMMENT)
        kept.append(before)
        if not found:
            return "".join(kept)
        text = rest.partition(COMMENT_END)[2]


def digest_of(content: bytes) -> str:
    """What an approval is bound to."""
    return hashlib.sha256(content).hexdigest()


def words_of_beat(content: bytes, due_s: int, time_zone: str) -> str:
    """The message of a beat, with the very words that were approved. The same for each attempt."""
    return (
        f"This is a heartbeat, due at {local(due_s, time_zone)} ({time_zone}); nobody is waiting. {FILE} in the "
        f"workspace says what to look after, and a person has approved it:\n\n"
        f"{content.decode('utf-8', 'replace').strip()}\n\n"
        f"Do what of it is due now. What you answer is posted to a person, so answer only with what needs their "
        f"attention; if nothing does, answer {OK} and nothing else."
    )


def words_of_question(key: str) -> str:
    """What a person is asked once when the content has changed."""
    return (
        f"{FILE} of session {key} is not as it was approved, so heartbeats do not run it. To look at it and approve "
        f"it: agent-session heartbeat approve {quote(key)}"
    )

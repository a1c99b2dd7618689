"""What comes through a pipe into `run`: read only when there is something, never waited for in vain.

A pipe that stays open and silent (inherited from a supervisor, say) cannot be told from a slow one. Where a
person sits at a terminal it is waited for, with a note; elsewhere for ten seconds. `--stdin` and
`--no-stdin` decide it.
"""

import os
import select
import stat
import sys
import time
from collections.abc import Callable

from agent_session.domain.limits import SPOOL_BYTES

NOTE_S, SILENT_S = 2.0, 10.0
HEADING = "Standard input:"


def piped(wanted: bool | None, say: Callable[[str], None], descriptor: int = 0) -> str:
    """What stands on standard input, or nothing. `wanted`: yes, no, or None to decide here. Errors: ValueError
    for what is longer than a message may be."""
    if wanted is False or not _may_have_data(descriptor, wanted is True):
        return ""
    if wanted is None and not _speaks(descriptor, say):
        return ""
    parts: list[bytes] = []
    size = 0
    while data := os.read(descriptor, 1 << 20):
        parts.append(data)
        size += len(data)
        if size > SPOOL_BYTES:
            raise ValueError(
                f"standard input is longer than {SPOOL_BYTES >> 20} MiB: send less of it (head, tail, grep)"
            )
    return b"".join(parts).decode("utf-8", "replace").replace("\r\n", "\n")


def _may_have_data(descriptor: int, forced: bool) -> bool:
    """Files, pipes and sockets; not terminals, /dev/null and closed descriptors."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or forced


def _speaks(descriptor: int, say: Callable[[str], None]) -> bool:
    """Wait for the first byte or the end."""
    someone = sys.stderr.isatty()
    if _ready(descriptor, NOTE_S):
        return True
    if someone:
        say("waiting for standard input … (--no-stdin leaves it out)")
        return _ready(descriptor, None)
    began = time.monotonic()
    if _ready(descriptor, SILENT_S - NOTE_S):
        return True
    waited = NOTE_S + time.monotonic() - began
    say(f"standard input is open but said nothing for {waited:.0f} s: going on without it (--stdin waits for it)")
    return False


def _ready(descriptor: int, timeout_s: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(None if timeout_s is None else timeout_s * 1000))


def with_input(text: str, data: str) -> str:
    """The message with what was piped in below it, fenced so that it cannot be taken for the person's words."""
    if not data.strip():
        return text
    fence = "```"
    while fence in data:
        fence += "`"
    return f"{text}\n\n{HEADING}\n\n{fence}\n{data.rstrip()}\n{fence}"

"""What a session's new workflow learns from the transcript of the one before it: the patterns that a
person allowed, and the model that one chose. Looks at the last 1,000 lines only."""

from itertools import islice

from agent_session.domain.limits import TAIL_LINES
from agent_session.domain.patterns import PATTERNS, AllowedPattern
from agent_session.domain.wire import from_wire
from agent_session.transcript.lines import APPROVAL, MODEL
from agent_session.transcript.reader import backwards
from agent_session.transcript.volume import Volume


def recall(volume: Volume, key: str) -> tuple[tuple[AllowedPattern, ...], str]:
    """Patterns, newest last, and the chosen model, empty for the configured one. Errors: VolumeUnavailable."""
    patterns: dict[tuple[str, ...], AllowedPattern] = {}
    choice: str | None = None
    for line in islice(backwards(volume, key), TAIL_LINES):
        if line.get("event") == APPROVAL and line.get("allows") and len(patterns) < PATTERNS:
            one = from_wire(AllowedPattern, line["allows"])
            patterns.setdefault((one.tool, one.pattern, one.principal, one.confinement), one)
        elif line.get("event") == MODEL and choice is None:
            choice = str(line.get("model", ""))
    return tuple(reversed(patterns.values())), choice or ""

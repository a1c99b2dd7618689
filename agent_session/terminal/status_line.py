"""The line at the bottom: what it does, what waits, what it cost. Pure."""

from dataclasses import dataclass, field

from agent_session.domain.status_words import amount, dollars
from agent_session.terminal.look import Look
from agent_session.terminal.text import shortened


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the line is made of. `tools`: name and seconds of each that runs."""

    key: str
    doing: str = "idle"
    tools: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    step: int = 0
    queue: int = 0
    tokens: int = 0
    cost_microusd: int = 0
    model: str = ""


def status_line(facts: Facts, width: int, look: Look) -> str:
    """At most `width` - 1 characters; where there is no room, what matters least is left out first."""
    doing = ", ".join(f"{name} {clock(since)}" for name, since in facts.tools) or facts.doing
    parts = [  # as shown: (what is dropped first has the highest number, words)
        (1, facts.key),
        (0, doing),
        (6, f"step {facts.step}" if facts.step else ""),
        (2, f"{facts.queue} queued" if facts.queue else ""),
        (5, f"{amount(facts.tokens)} tokens" if facts.tokens else ""),
        (3, dollars(facts.cost_microusd) if facts.cost_microusd else ""),
        (4, facts.model),
    ]
    parts = [(rank, look.words(shortened(words, 60))) for rank, words in parts if words]
    between = look.words(" · ")
    while len(parts) > 1 and len(between.join(words for _, words in parts)) > width - 1:
        parts.remove(max(parts))
    return shortened(between.join(words for _, words in parts), width - 1, look.dots)


def clock(seconds: int) -> str:
    minutes, rest = divmod(max(0, seconds), 60)
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"

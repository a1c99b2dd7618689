"""Calls that wait for a person: their cards, and what an answer means. Pure.

An answer counts only for a card that stood on the screen before its first key was pressed.
"""

from dataclasses import dataclass, field

from agent_session.domain.cards import argument_lines, visible

ALLOW, ALWAYS, DENY, LATER = "allow", "always", "deny", "later"


@dataclass(frozen=True)
class Card:
    """A call as a person judges it."""

    call: str
    tool: str
    args: str
    digest: str
    why: str = ""
    pattern: str = ""
    shown_at: float = 0.0

    def lines(self) -> list[str]:
        """The whole of what would run, and the keys."""
        return [
            f"  ? {visible(self.tool)} asks to run:",
            *(f"      {line}" for line in argument_lines(self.args)),
            *([f"    why it asks: {visible(self.why)}"] if self.why else []),
            "    [y] allow once",
            *([f"    [a] always: {visible(self.pattern)} for this session"] if self.pattern else []),
            "    [n] deny (with a reason)  [Enter] later",
        ]

    @property
    def prompt(self) -> str:
        return "allow? [y/a/n] " if self.pattern else "allow? [y/n] "


@dataclass(frozen=True)
class Answer:
    kind: str
    reason: str | None = None  #: None: to be asked for


def answer_to(card: Card, line: str) -> Answer | None:
    """What a typed line says about a card; None: it is a message like any other."""
    words = line.strip()
    key = words.lower()
    if not words:
        return Answer(LATER)
    if key in ("y", "yes"):
        return Answer(ALLOW)
    if key in ("a", "always") and card.pattern:
        return Answer(ALWAYS)
    if key in ("n", "no"):
        return Answer(DENY)
    return Answer(DENY, words[2:].strip()) if key.startswith(("n ", "n:")) else None


@dataclass
class Desk:
    """The cards that lie open, the oldest first."""

    open: dict[str, Card] = field(default_factory=dict[str, Card])
    later: set[str] = field(default_factory=set[str])
    decided: set[str] = field(default_factory=set[str])  #: here, by this person
    reason_for: Card | None = None

    @property
    def asking(self) -> Card | None:
        """The card that the prompt is about."""
        return next((card for call, card in self.open.items() if call not in self.later), None)

    def close(self, call: str) -> Card | None:
        self.later.discard(call)
        if self.reason_for is not None and self.reason_for.call == call:
            self.reason_for = None
        return self.open.pop(call, None)

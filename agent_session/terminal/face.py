"""What a chat needs of a terminal, whatever that terminal can do."""

from collections.abc import Sequence
from typing import Protocol


class Face(Protocol):
    """Shows lines and takes lines; knows nothing of sessions."""

    @property
    def streams_below(self) -> bool:
        """Whether an answer's unfinished tail can be shown; if not, lines are printed as they come."""
        ...

    def write(self, text: str) -> None:
        """Whole lines, above the prompt, for good."""
        ...

    def refresh(self) -> None:
        """What stands below may have changed."""
        ...

    async def run(self, chat: "Talk") -> None:
        """Until the person leaves or `leave` is called. Errors: none."""
        ...

    def leave(self) -> None: ...


class Talk(Protocol):
    """What a terminal asks and tells the chat."""

    @property
    def prompt(self) -> str: ...

    @property
    def idle(self) -> bool:
        """Nothing runs: a terminal without a cursor may show its prompt."""
        ...

    def live(self, width: int, rows: int) -> Sequence[str]:
        """Lines that stand above the prompt for now."""
        ...

    def status(self, width: int) -> str: ...

    def typed(self, line: str, *, fresh_since: float) -> None:
        """A line was entered; its first character was typed at this moment of the monotonic clock."""
        ...

    def interrupted(self, had_text: bool) -> None:
        """Ctrl-C; a terminal clears its input itself."""
        ...

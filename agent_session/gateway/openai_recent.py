"""What one gateway process remembers of late requests of OpenAI's protocol. Losing it loses no answer: what must be
known for certain is read from the transcript (openai_names.py)."""

from collections import OrderedDict
from typing import Generic, TypeVar

KEPT = 4_096
T = TypeVar("T")


class Lately(Generic[T]):
    """The newest facts by name; the oldest are forgotten."""

    def __init__(self) -> None:
        self._facts: OrderedDict[str, T] = OrderedDict()

    def note(self, name: str, fact: T) -> None:
        self._facts[name] = fact
        self._facts.move_to_end(name)
        while len(self._facts) > KEPT:
            self._facts.popitem(last=False)

    def of(self, name: str) -> T | None:
        return self._facts.get(name)


class Recent:
    """One a process."""

    def __init__(self) -> None:
        self.said = Lately[str]()  #: what was said, as a digest → the id that it went under
        self.handed_over = Lately[bool]()  #: message, scoped → whether its answer went out whole

"""What the running turn of each session has shown so far, for a watcher that comes in the middle.

Kept in `up`'s memory only, bounded; must not be mistaken for the transcript, which is the truth.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from agent_session.live.events import DELTA, RETRY, STEP, TOOL_OUTPUT, TURN_ENDED, TURN_STARTED, LiveEvent

SESSIONS = 2_000
TEXT_CHARS = 256 * 1024  #: of one turn; beyond it the oldest output is left out
PIECES = (DELTA, TOOL_OUTPUT)


class RunningTurns:
    """The events of turns that have not ended, shortened: pieces of one text are put together."""

    def __init__(self) -> None:
        self._turns: OrderedDict[str, list[LiveEvent]] = OrderedDict()

    def note(self, event: LiveEvent) -> None:
        """Take one event in."""
        if event.kind == TURN_ENDED:
            self._turns.pop(event.session, None)
            return
        events = self._turns.get(event.session)
        if events is None or (event.kind in (TURN_STARTED, STEP) and event.turn != events[0].turn):
            events = self._turns[event.session] = []
        self._turns.move_to_end(event.session)
        if event.kind == RETRY:  # that attempt is void, and whoever comes now has seen nothing of it
            step = event.step or max((one.step for one in events), default=0)
            events[:] = [one for one in events if one.kind != DELTA or one.step != step]
        if events and event.kind in PIECES and _text_of(events[-1]) == _text_of(event):
            events[-1] = replace(events[-1], text=(events[-1].text + event.text)[-TEXT_CHARS:])
        elif not _is_known(events, event):
            events.append(event)
        while sum(len(one.text) for one in events) > TEXT_CHARS and len(events) > 1:
            del events[1]
        while len(self._turns) > SESSIONS:
            self._turns.popitem(last=False)

    def note_all(self, events: Iterable[LiveEvent]) -> None:
        """As `note` of each, quicker for many: what is one text anyway is put together first."""
        for _, pieces in groupby(events, lambda one: _text_of(one) if one.kind in PIECES else object()):
            first, *others = pieces
            text = "".join((first.text, *(one.text for one in others)))
            self.note(replace(first, text=text) if others else first)

    def of(self, session: str) -> list[LiveEvent]:
        """Oldest first; empty when no turn runs."""
        return list(self._turns.get(session, ()))


class WholeTexts:
    """Leaves out pieces of an answer whose beginning was not seen: the end of the turn brings it whole."""

    def __init__(self) -> None:
        self._begun = ("", 0)

    def shows(self, event: LiveEvent) -> bool:
        """To be asked of every event, in order."""
        if event.kind in (STEP, RETRY) and event.step:
            self._begun = (event.turn, event.step)
        return event.kind != DELTA or (event.turn, event.step) == self._begun


def _is_known(events: list[LiveEvent], event: LiveEvent) -> bool:
    """A retried attempt says again what it works on."""
    same = (event.kind, event.step, event.call)
    return event.kind in (STEP, TURN_STARTED) and any((one.kind, one.step, one.call) == same for one in events)


def _text_of(piece: LiveEvent) -> tuple[str, str, str, int, str]:
    """Pieces with the same are one text."""
    return piece.session, piece.kind, piece.turn, piece.step, piece.call

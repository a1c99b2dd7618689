"""What a client of a stream has been shown of a turn's answer, and what of it comes next.

Pure. A stream takes nothing back: where an attempt of the model is thrown away, its text stays, and the answer
that counts follows behind a line that says so, unless it goes on just as the lost one began.
"""

from agent_session.live.events import DELTA, RETRY, STEP, TURN_STARTED, LiveEvent

BETWEEN_STEPS = "\n\n"
ANEW = "\n\n[The answer broke off here and begins anew.]\n\n"


class Shown:
    """Of one message's turn."""

    def __init__(self, scoped: str, turn: str = "", before: str = "") -> None:
        """`turn`, where it is known already; `before`: what the client was shown ahead of its answer."""
        self._scoped, self._turn = scoped, turn
        self._step = 0
        self._said = ""  #: by this attempt of the step
        self._seen = ""  #: by the client, of this step
        self._anything = bool(before)

    def take(self, event: LiveEvent) -> str:
        """What to send on for a live event; empty for nothing. The message's turn is known by the event that says
        who opened it; other turns' events are passed over."""
        if event.kind == TURN_STARTED and event.call == self._scoped:
            self._turn = event.turn
        if not self._turn or event.turn != self._turn:
            return ""
        if event.kind in (STEP, RETRY):  # a step that begins again has lost what it said
            self._begin(event.step or self._step)
        elif event.kind == DELTA:
            if event.step != self._step:
                self._begin(event.step)
            return self._more(event.text)
        return ""

    def end(self, step: int, text: str) -> str:
        """What is missing of the reply, whose last step has this number."""
        self._begin(step)
        return self._more(text)

    def aside(self, text: str) -> str:
        """Words that are no part of the model's answer, apart from what was shown."""
        lead = BETWEEN_STEPS if self._anything else ""
        self._anything = True
        return lead + text

    def _begin(self, step: int) -> None:
        if step != self._step:
            self._step, self._seen = step, ""
        self._said = ""

    def _more(self, text: str) -> str:
        self._said += text
        if not self._said or self._seen.startswith(self._said):
            return ""
        if not self._seen:
            new = self.aside(self._said)
        elif self._said.startswith(self._seen):
            new = self._said[len(self._seen) :]
        else:
            new = ANEW + self._said
        self._seen = self._said
        return new

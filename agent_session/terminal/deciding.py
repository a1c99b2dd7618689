"""Calls of one session that wait for a person: found, shown, decided on, here or elsewhere.

Arguments come from the transcript by `waiting_calls`, never from the bus: what is decided on is what would run.
"""

import asyncio
import time

from agent_session.domain.cards import visible
from agent_session.domain.status import WAITING_APPROVAL, Status
from agent_session.remote.sessions import Sessions
from agent_session.terminal import recap
from agent_session.terminal.approvals import ALLOW, ALWAYS, DENY, LATER, Answer, Card, Desk, answer_to
from agent_session.terminal.look import DIM, YELLOW
from agent_session.terminal.view import View


class Decisions:
    """The cards of one session on one screen."""

    def __init__(self, client: Sessions, view: View, key: str) -> None:
        self._client, self._view, self._key = client, view, key
        self.desk = Desk()

    @property
    def waits(self) -> bool:
        """The prompt is a question now."""
        return self.desk.asking is not None or self.desk.reason_for is not None

    @property
    def prompt(self) -> str:
        """The question, or nothing."""
        if self.desk.reason_for is not None:
            return "why not? (Enter: no reason) "
        return self.desk.asking.prompt if self.desk.asking else ""

    async def look(self, status: Status | None) -> None:
        """Show the cards that are new, take away those that are decided."""
        asking = {tool.call for tool in status.tools if tool.state == "asks"} if status else set[str]()
        known = self.desk.open.keys() | self.desk.decided
        if status is not None and status.state == WAITING_APPROVAL and asking - known:
            for one in await asyncio.to_thread(self._client.waiting_calls, self._key, status):
                if one["call"] not in known:
                    self._show(
                        Card(
                            call=one["call"],
                            tool=one["tool"],
                            args=one["args"],
                            digest=one["digest"],
                            why=one.get("why", ""),
                            pattern=one.get("pattern", ""),
                            shown_at=time.monotonic(),
                        )
                    )
        for call in self.desk.open.keys() - asking:
            card = self.desk.close(call)
            if card is not None and call not in self.desk.decided:
                who = await self._who_decided(call)
                words = f"decided elsewhere ({who})" if who else "no longer waits"
                self._view.say(f"  {visible(card.tool)}: {words}", YELLOW)

    async def _who_decided(self, call: str) -> str:
        """The worker writes it down a moment after the workflow knows; for a cancelled call it never does."""
        for _ in range(10):
            who = await recap.who_decided(self._client.backwards(self._key), call)
            if who or not self._view.now.turn:
                return who
            await asyncio.sleep(0.1)
        return ""

    def _show(self, card: Card) -> None:
        self.desk.open[card.call] = card
        head, *rest = card.lines()
        self._view.say(head, YELLOW)
        self._view.say("\n".join(rest))

    def show_again(self) -> bool:
        """The cards that were put off; whether there are any."""
        again = bool(self.desk.later)
        self.desk.later.clear()
        for card in list(self.desk.open.values()) if again else ():
            self._show(card)
        return again

    def take(self, line: str, fresh_since: float) -> tuple[Card, Answer] | bool:
        """What a typed line decides; True when it was taken and nothing is to be sent, False when it is no
        answer."""
        card, asking = self.desk.reason_for, self.desk.asking
        if card is not None:
            self.desk.reason_for = None
            return card, Answer(DENY, line.strip())
        answer = answer_to(asking, line) if asking is not None and fresh_since >= asking.shown_at else None
        if asking is None or answer is None:
            return False
        if answer.kind == LATER:
            self.desk.later.add(asking.call)
            self._view.say("  it waits; Enter on an empty line shows it again", DIM)
            return True
        if answer.kind == DENY and answer.reason is None:
            self.desk.reason_for = asking
            return True
        return asking, answer

    async def decide(self, card: Card, answer: Answer) -> None:
        """Errors: those of the client; the card then stays open."""
        if card.call not in self.desk.open:
            self._view.say(f"  {visible(card.tool)}: it was decided meanwhile", YELLOW)
            return
        pattern = card.pattern if answer.kind == ALWAYS else ""
        decision = DENY if answer.kind == DENY else ALLOW
        await self._client.resolve(self._key, card.call, card.digest, decision, answer.reason or "", pattern=pattern)
        self.desk.decided.add(card.call)
        self.desk.close(card.call)
        always = f" always: {visible(pattern)}" if pattern else ""
        why = f": {visible(answer.reason)}" if answer.reason else ""
        self._view.say(f"  {visible(card.tool)} {'allowed' if decision == ALLOW else 'denied'}{always}{why}", DIM)

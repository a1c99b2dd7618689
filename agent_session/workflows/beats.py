"""Heartbeats from the session's side: it decides whether one runs now, and whether its answer is worth telling.

A beat never waits in the queue: the next one comes anyway. A skip costs the signal that brought the beat, nothing
more.
"""

from typing import Any

from temporalio import workflow

from agent_session.workflows.core import SessionCore

with workflow.unsafe.imports_passed_through():
    from agent_session.domain.beats import BUDGET, BUSY, QUIET, SKIPS, says_ok
    from agent_session.domain.messages import HEARTBEAT, InboundMessage
    from agent_session.domain.replies import ANSWERED
    from agent_session.domain.turns import OpenTurn

BEATS_PATCH = "beats"


class Beating(SessionCore):
    """Skip, count, keep quiet."""

    def skips_beat(self, message: InboundMessage) -> bool:
        """Whether this is a beat that does not run now; then it is recorded."""
        if message.kind != HEARTBEAT or message.fault or not workflow.patched(BEATS_PATCH):
            return False
        why = self._why_no_beat()
        if why:
            self.beats = self.beats.skipping(why, self.now_s())
        return why != ""

    def _why_no_beat(self) -> str:
        if self.turn is not None or len(self.inbox) or self.closing or self.ends_when_idle:
            return BUSY
        return BUDGET if self._budget_is_used_up() else ""

    def _budget_is_used_up(self) -> bool:
        limit = self.options.heartbeat_daily_tokens
        return limit > 0 and self.beats.tokens_on(self.now_s()) >= limit

    def beat_skipped(self, value: Any, digest: str) -> None:
        """A signal: beats are being skipped before they come here. Known words only, whoever says so."""
        if isinstance(value, str) and value in SKIPS:
            self.beats = self.beats.skipping(value, self.now_s())

    def count_tokens(self, turn: OpenTurn, tokens: int) -> None:
        """Background turns have a budget of their own."""
        if turn.is_background:
            self.beats = self.beats.spending(tokens, self.now_s())

    def beat_has_spent_enough(self, turn: OpenTurn) -> bool:
        """In mid-turn: one long beat must not use many days' tokens. Then it is recorded."""
        enough = self._is_beat(turn) and self._budget_is_used_up()
        if enough:
            self.beats = self.beats.skipping(BUDGET, self.now_s())
        return enough

    def end_beat(self, turn: OpenTurn, outcome: str, text: str, *, by_reference: bool) -> bool:
        """Count the beat, if the turn was one. Whether its reply is kept back: only an answer that says something is
        told; how others ended, status shows. One that comes by reference is looked at when it is delivered."""
        if not self._is_beat(turn):
            return False
        quiet = outcome == ANSWERED and not by_reference and self.swallows_ok(turn) and says_ok(text)
        self.beats = self.beats.ending(QUIET if quiet else outcome, self.now_s())
        return quiet or self.keeps_back(turn, outcome)

    def keeps_back(self, turn: OpenTurn, outcome: str) -> bool:
        """Nobody asked for a beat, so nobody is told that one was stopped or failed."""
        return outcome != ANSWERED and self._is_beat(turn)

    def swallows_ok(self, turn: OpenTurn) -> bool:
        return self.options.heartbeat_swallow > 0 and self._is_beat(turn)

    @staticmethod
    def _is_beat(turn: OpenTurn) -> bool:
        return turn.place is not None and turn.place.kind == HEARTBEAT and workflow.patched(BEATS_PATCH)

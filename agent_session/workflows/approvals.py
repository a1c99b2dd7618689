"""Waiting for a person's decision on tool calls, for days if need be. Durable: the request, the decision and
the patterns allowed travel over roll-over; cancel and interrupt work meanwhile.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

from temporalio import workflow

from agent_session.workflows.core import NEEDS_APPROVAL
from agent_session.workflows.handlers import Handlers

with workflow.unsafe.imports_passed_through():
    from agent_session.domain.ids import call_id
    from agent_session.domain.limits import ID_CHARS
    from agent_session.domain.patterns import PATTERN_CHARS, PATTERNS, AllowedPattern
    from agent_session.domain.turns import ASK, NOBODY_ANSWERED, REASON_BYTES, TOOLS, Decision, OpenTurn, ToolCall
    from agent_session.domain.wire import clipped, from_wire

NO_ANSWER = Decision(decision="deny", reason=NOBODY_ANSWERED)


class Approvals(Handlers):
    """Ask, wait, take the answer in."""

    def undecided(self) -> list[ToolCall]:
        """Calls of the running step that wait for a person."""
        if self.turn is None or self.turn.phase != TOOLS:
            return []
        return [call for call in self.turn.calls if call.verdict == ASK and call.decision is None]

    def waits_for_a_person(self) -> bool:
        return bool(self.undecided()) and self.turn is not None and not self.turn.stop

    async def approvals_are_in(self) -> bool:
        """Wait until a person has decided on every call that asks. False: a roll-over or a stop comes first."""
        if not self.undecided():
            return True
        assert self.turn is not None
        self.turn = turn = replace(self.turn, asked_s=self.turn.asked_s or self.now_s())
        self.say_what_it_needs(NEEDS_APPROVAL)
        left_s = max(0, turn.asked_s + self.options.approval_timeout_s - self.now_s())
        try:
            await workflow.wait_condition(
                lambda: not self.waits_for_a_person() or self.must_roll_over_now(), timeout=timedelta(seconds=left_s)
            )
        except TimeoutError:
            for call in self.undecided():
                self._put(replace(call, decision=NO_ANSWER))
        if self.undecided() or self._was_stopped():
            return False
        self.say_what_it_needs("")
        return True

    def _was_stopped(self) -> bool:
        return self.turn is None or self.turn.stop != ""

    def ask_again(self, call: ToolCall, digest: str) -> None:
        """What would run on the worker that took the call differs from what was judged or allowed."""
        self._put(replace(call, verdict=ASK, digest=digest, decision=None, started_s=0))
        if self.turn is not None:
            self.turn = replace(self.turn, asked_s=self.now_s())
        self.say_what_it_needs(NEEDS_APPROVAL)

    def decide(self, call: str, decision: Decision) -> bool:
        """A person's answer on the call of that id; the first one stands. Its signature is checked before the
        effect. False: nothing of that id waits."""
        if decision.decision not in ("allow", "deny") or self.turn is None:
            return False
        for one in self.undecided():
            if call == call_id(self.turn.id, self.turn.step, one.index):
                self._put(replace(one, decision=_bounded(decision)))
                return True
        return False

    def resolve_approval(self, value: Any, digest: str) -> None:
        if isinstance(value, Mapping):
            given = cast(Mapping[str, Any], value)
            self.decide(str(given.get("call", "")), from_wire(Decision, given))

    def allow_pattern(self, allowed: AllowedPattern | None) -> None:
        """Calls like this one run without asking from now on; the oldest pattern gives way."""
        if allowed is not None and allowed not in self.allowed:
            self.allowed = (*self.allowed, allowed)[-PATTERNS:]

    def _put(self, call: ToolCall) -> None:
        turn: OpenTurn | None = self.turn
        if turn is not None:
            calls = tuple(call if one.index == call.index else one for one in turn.calls)
            self.turn = replace(turn, calls=calls)

    def must_roll_over_now(self) -> bool:
        """Implemented by the main loop."""
        raise NotImplementedError


def _bounded(decision: Decision) -> Decision:
    """What a signal holds may be of any size; what is carried may not."""
    return replace(
        decision,
        principal=decision.principal[:ID_CHARS],
        grants=tuple(grant[:32] for grant in decision.grants[:4]),
        mac=decision.mac[:64],
        reason=clipped(decision.reason, REASON_BYTES),
        pattern=decision.pattern[:PATTERN_CHARS],
    )

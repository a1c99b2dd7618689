"""What comes in while a session lives: signals, queries and the update `await_reply`.

A signal that the SDK cannot decode is dropped by it after the channel has acknowledged it, and one with
the wrong number of arguments would fail the workflow task for ever; so one dynamic handler takes every
signal raw. Handlers only note what happened; the main loop acts.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from temporalio import workflow
from temporalio.common import RawValue

from agent_session.workflows.beats import Beating

with workflow.unsafe.imports_passed_through():
    from agent_session.domain import replies as outcomes
    from agent_session.domain.failures import FailureEnvelope
    from agent_session.domain.ids import call_id, error_id, turn_id
    from agent_session.domain.inbox import FULL
    from agent_session.domain.limits import OUTBOX_DELIVERIES
    from agent_session.domain.messages import INTERRUPT, InboundMessage, parse_message
    from agent_session.domain.outbox import Delivery
    from agent_session.domain.replies import PENDING, ROLLED_OVER, UNKNOWN, ReplyRecord, preview
    from agent_session.domain.status import CLOSING_TURN, IDLE, RUNNING, WAITING_APPROVAL, RunningTool, Status
    from agent_session.domain.turns import ASK, CLOSING, TOOLS
    from agent_session.domain.wire import Wire, to_wire


class Handlers(Beating):
    """Receive, cancel, decide, roll over, close; status and replies."""

    @workflow.signal(dynamic=True)
    def on_signal(self, name: str, args: Sequence[RawValue]) -> None:
        handlers: dict[str, Callable[[Any, str], None]] = {
            "receive": self._receive,
            "cancel_turn": self._cancel_turn,
            "resolve_approval": self.resolve_approval,
            "roll_over": self._roll_over,
            "close": self._close,
            "beat_skipped": self.beat_skipped,
        }
        handler = handlers.get(name)
        if handler is None:
            workflow.logger.warning("a signal that no handler knows was ignored")
            return
        data = args[0].payload.data if args else b""
        try:
            value = workflow.payload_converter().from_payload(args[0].payload) if args else None
        except Exception:  # whatever it is, it is answered and not dropped
            value = None
        handler(value, hashlib.sha256(data).hexdigest()[:16])

    def _receive(self, value: Any, digest: str) -> None:
        message = parse_message(value, fallback_id=f"unreadable-{digest}")
        if self.replies.has(message.scoped) or self.inbox.has_same(message):
            return
        if self.skips_beat(message) or self.take_aside(message):
            return
        superseded = self.inbox.coalesce(message)
        if superseded is not None:
            reply = ReplyRecord(turn=turn_id([superseded.scoped]), outcome=outcomes.INTERRUPTED)
            self.replies.record([superseded.scoped], reply)
        if self.inbox.accept(message) == FULL:
            self.refuse(message, "queue_full")
            return
        self._make_way_for(message)
        self.keep_memory_small()

    def _make_way_for(self, message: InboundMessage) -> None:
        """An interrupt stops the running turn; a person does not wait for a heartbeat."""
        turn = self.turn
        if turn is None or turn.place is None:
            return
        if message.mode == INTERRUPT or (turn.is_background and not message.is_background):
            self.stop_turn(outcomes.INTERRUPTED)

    def refuse(self, message: InboundMessage, kind: str) -> None:
        """Answer a message that no turn will take in. Its id stays free: who merely reaches Temporal must
        not use up a person's ids. A channel hears of it while the outbox has room (`deliver` sends to
        signed places only)."""
        turn = turn_id([message.scoped])
        envelope = FailureEnvelope(kind=kind, error_id=error_id(turn, kind))
        reply = ReplyRecord(turn=turn, outcome=outcomes.FAILED, text=envelope.apology, error_id=envelope.error_id)
        self.replies.refuse(message.scoped, reply)
        self.note_failure(kind, envelope.error_id)
        if message.reply_address and len(self.outbox) < OUTBOX_DELIVERIES // 2:
            delivery = Delivery(
                reply=turn,
                address=message.reply_address,
                mac=message.reply_mac,
                outcome=outcomes.FAILED,
                failure=kind,
                error_id=envelope.error_id,
            )
            self.outbox.add(delivery)

    def note_failure(self, kind: str, error: str) -> None:
        self.last_failure, self.last_error_id, self.last_error_s = kind, error, self.now_s()

    def stop_turn(self, outcome: str) -> None:
        """Close the running turn at the next chance: its step is cancelled and waited for."""
        if self.turn is None or self.turn.stop or self.turn.phase == CLOSING:
            return
        self.turn = replace(self.turn, stop=outcome)
        if self.step_task is not None:
            self.step_task.cancel()

    def _cancel_turn(self, value: Any, digest: str) -> None:
        """Only the turn that is named: a late Ctrl-C spares the next one."""
        if self.turn is not None and value == self.turn.id:
            self.stop_turn(outcomes.CANCELLED)

    def _roll_over(self, value: Any, digest: str) -> None:
        self.wants_roll_over = True

    def _close(self, value: Any, digest: str) -> None:
        self.closing = True

    def keep_memory_small(self) -> None:
        """Implemented by the part that spills."""
        raise NotImplementedError

    def take_aside(self, message: InboundMessage) -> bool:
        """Implemented by the part that answers beside the turns."""
        raise NotImplementedError

    def resolve_approval(self, value: Any, digest: str) -> None:
        """Implemented by the part that waits for decisions."""
        raise NotImplementedError

    @workflow.update(name="await_reply")
    async def await_reply(self, raw: RawValue) -> Wire:
        """The reply to one message, by its scoped id. Before a roll-over: `rolled_over`, ask again. An
        id that is neither waiting nor answered: `unknown`, at once. Our clients read the
        transcript instead (docs/decisions.md); older ones and histories use it."""
        scoped = self._scoped_from(raw)
        self.updates += 1
        await workflow.wait_condition(lambda: self.rolling or self.replies.has(scoped) or not self.inbox.knows(scoped))
        return self._reply_wire(scoped)

    @workflow.query(name="reply")
    def reply(self, raw: RawValue) -> Wire:
        """How a message was answered; `pending` while it waits or runs, and then the turn that it is in."""
        scoped = self._scoped_from(raw)
        if self.inbox.knows(scoped) and not self.replies.has(scoped):
            taken = self.turn is not None and scoped in self.turn.scoped
            return {"outcome": PENDING, "turn": self.turn.id if self.turn is not None and taken else ""}
        return self._reply_wire(scoped)

    def _reply_wire(self, scoped: str) -> Wire:
        found = self.replies.find(scoped)
        if found is not None:
            return to_wire(found)
        return {"outcome": ROLLED_OVER if self.inbox.knows(scoped) else UNKNOWN}

    def _scoped_from(self, raw: RawValue) -> str:
        try:
            return str(workflow.payload_converter().from_payload(raw.payload))
        except Exception:
            return ""

    @workflow.query(name="last_reply")
    def last_reply(self) -> Wire | None:
        newest = self.replies.newest
        return to_wire(newest) if newest else None

    @workflow.query(name="status")
    def status(self) -> Wire:
        """What it is doing, without waiting for a turn."""
        return to_wire(self.current_status())

    def current_status(self) -> Status:
        turn, newest = self.turn, self.replies.newest
        tools = self._running_tools()
        state = IDLE
        if turn is not None:
            asked = any(tool.state == "asks" for tool in tools)
            state = CLOSING_TURN if turn.phase == CLOSING else WAITING_APPROVAL if asked else RUNNING
        info = workflow.info()
        return Status(
            key=self.key,
            state=state,
            turn=turn.id if turn else "",
            n=turn.n if turn else newest.n if newest else 0,
            step=turn.step if turn else 0,
            since_s=turn.since_s if turn else 0,
            tools=tools,
            queue=len(self.inbox),
            deliveries=len(self.outbox),
            deliveries_dropped=self.outbox.dropped,
            turns_in_run=self.turns_in_run,
            turns=self.tally.turns,
            roll_overs=self.tally.roll_overs,
            input_tokens=self.tally.input_tokens,
            output_tokens=self.tally.output_tokens,
            cached_tokens=self.tally.cached_tokens,
            cost_microusd=self.tally.cost_microusd,
            last_reply=preview(newest.text) if newest else "",
            last_outcome=newest.outcome if newest else "",
            last_error=self.last_failure,
            last_error_id=self.last_error_id,
            last_error_s=self.last_error_s,
            beats=self.beats.ran,
            beat_outcome=self.beats.outcome,
            beat_s=self.beats.last_s,
            beats_skipped=self.beats.skipped,
            beat_skip=self.beats.skip,
            beat_skip_s=self.beats.skip_s,
            beat_tokens=self.beats.tokens_on(self.now_s()),
            model=self.model,
            choice=self.choice,
            shell=self.shell,
            allowed=tuple(f"{one.tool}: {one.pattern}" for one in self.allowed),
            build_id=info.get_current_build_id(),
            run_id=info.run_id,
            closing=self.closing,
        )

    def _running_tools(self) -> tuple[RunningTool, ...]:
        """Calls that run, and calls that wait for a person."""
        turn = self.turn
        found: list[RunningTool] = []
        for call in turn.calls if turn is not None and turn.phase == TOOLS else ():
            asks = call.verdict == ASK and call.decision is None
            if asks or call.started_s:
                assert turn is not None
                found.append(
                    RunningTool(
                        call=call_id(turn.id, turn.step, call.index),
                        tool=call.tool,
                        state="asks" if asks else "running",
                        since_s=turn.asked_s if asks else call.started_s,
                        digest=call.digest,
                    )
                )
        return tuple(found)

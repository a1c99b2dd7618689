"""One turn, step by step: ask the model, ask people, run tools, close (I4, I6, I7).

Every step leaves `self.turn` such that another run can go on from it. Never hold `self.turn` across an
await: signals may have changed it.
"""

import asyncio
from dataclasses import replace
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.exceptions import TimeoutError as ActivityTimeout

from agent_session.workflows.approvals import Approvals
from agent_session.workflows.core import NEEDS_FAILED

with workflow.unsafe.imports_passed_through():
    from agent_session.domain import replies as outcomes
    from agent_session.domain.failures import FailureEnvelope, envelope_from
    from agent_session.domain.ids import error_id, turn_id
    from agent_session.domain.options import changed, options_from
    from agent_session.domain.outbox import Delivery
    from agent_session.domain.replies import ReplyRecord
    from agent_session.domain.turns import (
        CLOSING,
        MODEL,
        TOOLS,
        ClosedTurn,
        CloseInput,
        OpenTurn,
        StepAnswer,
        StepInput,
        ToolCall,
        ToolInput,
        ToolSummary,
    )
    from agent_session.domain.wire import from_wire, to_wire

TOOL_GRACE_S = 30  #: beyond the tool's own time-out, for writing its result
ASKS = "asks"  #: a worker's word for a call that it did not run
CLOSE_PATIENCE_S = 5  #: how long waiters wait for the transcript before they get the outcome


class TurnTaking(Approvals):
    """From a batch of messages to a reply."""

    def open_turn(self) -> None:
        """The next batch becomes the running turn; one that could not be read is answered right here."""
        batch = self.inbox.next_batch()
        if not batch:
            return
        first = batch[0]
        if first.fault:
            self.inbox.refused(first.scoped, first.mac)
            self.refuse(first, "unreadable")
            return
        scoped = tuple(message.scoped for message in batch)
        place = replace(first, text="", text_ref="", attachments=(), mac="", sender="", mode="collect")
        self.turn = OpenTurn(
            id=turn_id(scoped),
            messages=batch,
            scoped=scoped,
            place=place,
            since_s=self.now_s(),
            fresh=self.fresh,
            choice=self.choice,
            chosen=self.chosen,
        )
        self.fresh = self.chosen = False  # what is said from now on is for the turn after

    async def take_step(self) -> None:
        """One step; returns early where the turn ended, or where a roll-over is due first."""
        if self.turn is not None and self.turn.phase == MODEL:
            self.after_answer(await self.call_model())
        if self.turn is not None and self.turn.phase == TOOLS:
            if self.turn.stop or not await self.approvals_are_in():
                return  # a cancel can cross the answer: the activity then completes as if there were none
            await self.run_tools()
            if not self._open().stop and any(not call.done for call in self._open().calls):
                return  # a worker that took a call asked again, and perhaps it is decided already
            self.turn = replace(self._open(), step=self._open().step + 1, phase=MODEL, calls=(), asked_s=0)

    async def call_model(self) -> StepAnswer:
        turn = self._steered(self._open())
        self.turn = turn
        step = StepInput(
            key=self.key,
            turn=turn.id,
            step=turn.step,
            messages=turn.messages,
            after_seq=self.after_seq,
            model=self.model,
            options=changed(self.options) or None,
            shell=self.shell,
            allowed=self.allowed,
            choice=turn.choice,
            fresh=turn.fresh and turn.step == 1,
            chosen=turn.chosen and turn.step == 1,
            recall=turn.step == 1 and self.tally.turns == 0,
            pushed=turn.place is not None and turn.place.reply_address != "",
        )
        raw = await self.activity(
            "llm_chat",
            to_wire(step),
            timeout_s=self.options.model_timeout_s + self.options.volume_patience_s,
            summary=f"{turn.id}/{turn.step}",
            background=turn.is_background,
        )
        return from_wire(StepAnswer, raw)

    def _open(self) -> OpenTurn:
        assert self.turn is not None
        return self.turn

    def _steered(self, turn: OpenTurn) -> OpenTurn:
        """Messages in mode steer join at a step boundary, from the turn's own principal and place."""
        if turn.place is None or turn.step == 1:
            return turn
        joined = self.inbox.take_steering(turn.place)
        return replace(
            turn,
            messages=turn.messages + joined,
            scoped=turn.scoped + tuple(message.scoped for message in joined),
        )

    def after_answer(self, answer: StepAnswer) -> None:
        """Take in what the model step returned: the next phase, or the turn's end."""
        turn = self._open()
        self.after_seq = answer.seq
        self.model = answer.model or self.model
        self.shell = answer.shell or self.shell
        for pattern in answer.recalled:
            self.allow_pattern(pattern)
        if answer.choice and not self.chosen:
            self.choice = answer.choice
        turn = replace(turn, choice=answer.choice or turn.choice)
        if answer.options is not None:
            self.options = options_from(answer.options)
        self.tally = replace(
            self.tally,
            input_tokens=self.tally.input_tokens + answer.input_tokens,
            output_tokens=self.tally.output_tokens + answer.output_tokens,
            cached_tokens=self.tally.cached_tokens + answer.cached_tokens,
            cost_microusd=self.tally.cost_microusd + answer.cost_microusd,
        )
        self.count_tokens(turn, answer.input_tokens + answer.output_tokens)
        turn = self._without_settled(turn, replace(turn, n=answer.n, messages=()), answer)
        self.turn = turn
        if answer.finish in ("refused", "answered"):  # nothing was begun: what was decided is for the next turn
            self.fresh, self.chosen = self.fresh or turn.fresh, self.chosen or turn.chosen
            self.turn = None
        elif answer.finish == "stop":
            self.publish(outcomes.ANSWERED, text=answer.text, by_reference=answer.text_ref)
        elif answer.finish == "ended":
            ended_well = answer.outcome == outcomes.ANSWERED
            self.publish(answer.outcome, by_reference=ended_well, failure=answer.failure, error=answer.error_id)
        else:
            enough = self.beat_has_spent_enough(turn)
            stop = turn.stop or (outcomes.INTERRUPTED if enough else "")
            self.turn = replace(turn, phase=TOOLS, calls=answer.calls, stop=stop)
            self._send_card(turn, "" if enough else answer.card_ref)

    def _send_card(self, turn: OpenTurn, ref: str, name: str = "card") -> None:
        """The request for a decision goes to where the message came from."""
        place = turn.place
        if ref and place is not None and place.reply_address:
            card = f"{turn.id}-{turn.step}-{name}"
            self.outbox.add(Delivery(reply=card, address=place.reply_address, mac=place.reply_mac, text_ref=ref))
            self.start_deliveries()

    def start_deliveries(self) -> None:
        """Implemented by the part that delivers."""
        raise NotImplementedError

    def _without_settled(self, was: OpenTurn, turn: OpenTurn, answer: StepAnswer) -> OpenTurn:
        """Messages that this turn does not answer: unsigned ones, and ones that an older turn answered."""
        settled: set[str] = set()
        refused: set[str] = set()
        for scoped in answer.refused:
            envelope = FailureEnvelope(kind="not_signed", error_id=error_id(scoped, "not_signed"))
            reply = ReplyRecord(
                turn=turn.id, outcome=outcomes.FAILED, text=envelope.apology, error_id=envelope.error_id
            )
            self.inbox.refused(scoped, next((one.mac for one in was.messages if one.scoped == scoped), ""))
            self.replies.refuse(scoped, reply)
            self.note_failure("not_signed", envelope.error_id)
            refused.add(scoped)
        for entry in answer.earlier:
            scoped, outcome, older = entry.split(" ", 2)
            self.replies.record([scoped], ReplyRecord(turn=older, outcome=outcome, text_ref=older))
            if turn.place is not None and turn.place.reply_address and not self.keeps_back(turn, outcome):
                delivery = self._delivery(older, turn.place.reply_address, turn.place.reply_mac, "", outcome)
                self.outbox.add(replace(delivery, unless_ok=self.swallows_ok(turn)))
            settled.add(scoped)
        self.inbox.answered(settled)
        return replace(turn, scoped=tuple(one for one in turn.scoped if one not in settled | refused))

    async def run_tools(self) -> None:
        """All calls of the step: those that may, in parallel; the others one after another."""
        calls = self._open().calls
        alone = [call for call in calls if not call.parallel]

        async def one_by_one() -> None:
            for call in alone:
                if not self._open().stop and not call.done:
                    await self.run_tool(call)

        together = (self.run_tool(call) for call in calls if call.parallel and not call.done)
        for outcome in await asyncio.gather(one_by_one(), *together, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome  # only now: the turn may not close while another tool is still being stopped

    async def run_tool(self, call: ToolCall) -> None:
        """A call that fails as an activity has no result yet: the next model step gives it one (I5)."""
        turn = self._open()
        self._mark(call, self.now_s())
        request = ToolInput(
            key=self.key,
            turn=turn.id,
            step=turn.step,
            index=call.index,
            after_seq=self.after_seq,
            decision=call.decision,
            digest=call.digest,
            pushed=turn.place is not None and turn.place.reply_address != "",
        )
        try:
            raw = await self.activity(
                "execute_tool",
                to_wire(request),
                timeout_s=call.timeout_s + TOOL_GRACE_S + self.options.volume_patience_s,
                summary=f"{call.tool[:40]} {turn.id}/{turn.step}",
                attempts=self.options.tool_attempts,
                queue=call.queue,
                background=turn.is_background,
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            failed = self.envelope_of(error, turn.id, turn.step)
            self.note_failure(failed.kind, failed.error_id)
        else:
            summary = from_wire(ToolSummary, raw)
            self.after_seq = max(self.after_seq, summary.seq)
            if summary.outcome == ASKS:
                self.ask_again(call, summary.digest)
                self._send_card(turn, summary.card_ref, f"{call.index}-{summary.digest[:8]}")
                return
            self.allow_pattern(summary.allowed)
            for delivery in summary.deliveries:
                self.outbox.add(delivery)
        self._mark(call, 0, done=True)

    def _mark(self, call: ToolCall, started_s: int, *, done: bool = False) -> None:
        turn = self._open()
        marked = {one.index: one for one in turn.calls}
        marked[call.index] = replace(marked[call.index], started_s=started_s, done=done)
        self.turn = replace(turn, calls=tuple(marked.values()))

    def fail_turn(self, error: BaseException) -> None:
        """The step failed for good: the turn will be closed with an apology (I6). One that was to be stopped
        ends as it was asked to: a cancelled attempt that fails is not tried again."""
        if self.turn is None or self.turn.stop:
            return
        envelope = self.envelope_of(error, self.turn.id, self.turn.step)
        workflow.logger.warning("a turn failed: %s %s", envelope.kind, envelope.error_id)
        self.turn = replace(self.turn, stop=outcomes.FAILED, failure=envelope.kind, error_id=envelope.error_id)

    @staticmethod
    def envelope_of(error: BaseException, *where: object) -> FailureEnvelope:
        """The envelope that an activity's failure carries; `where` makes an id for one that has none."""
        cause = error.cause if isinstance(error, ActivityError) else error
        envelope = FailureEnvelope()
        if isinstance(cause, ApplicationError):
            envelope = envelope_from(cause.details)
        elif isinstance(cause, ActivityTimeout):
            envelope = FailureEnvelope(kind="time_out")
        identifier = envelope.error_id or error_id(*where, type(error).__name__)
        return replace(envelope, error_id=identifier)

    async def close_turn(self) -> None:
        """Close a stopped turn from the transcript. Waiters are told after 5 s at the latest, whatever the
        volume does; no other turn opens until the transcript is closed."""
        turn = self._open()
        self.turn = turn = replace(turn, phase=CLOSING)
        closing = CloseInput(
            key=self.key,
            turn=turn.id,
            outcome=turn.stop,
            failure=turn.failure,
            error_id=turn.error_id,
            messages=turn.messages,
            after_seq=self.after_seq,
            fresh=turn.fresh and turn.step == 1,
            chosen=turn.chosen and turn.step == 1,
            choice=turn.choice,
        )
        record = asyncio.create_task(
            self.activity(
                "record_turn", to_wire(closing), timeout_s=self.options.record_timeout_s, summary=f"{turn.id} close"
            )
        )
        try:
            if not turn.told:
                await workflow.wait_condition(record.done, timeout=timedelta(seconds=CLOSE_PATIENCE_S))
        except TimeoutError:
            self.publish(turn.stop, failure=turn.failure, error=turn.error_id, keep_open=True)
        await workflow.wait_condition(lambda: record.done() or self.must_roll_over_now())
        if not record.done():
            record.cancel()  # the next run closes it: record_turn is idempotent
            await workflow.wait([record])
            return
        self._closed(record)

    def _closed(self, record: "asyncio.Task[object]") -> None:
        turn = self._open()
        if record.cancelled() or record.exception() is not None:
            # it is retried without limit, so this is a fault that no retry mends: the session goes on (I6)
            workflow.logger.warning("a turn could not be closed in the transcript: %s", turn.id)
            closed = ClosedTurn(outcome=turn.stop, failure=turn.failure, error_id=turn.error_id, seq=self.after_seq)
        else:
            closed = from_wire(ClosedTurn, record.result())
        self.after_seq = closed.seq
        if turn.told:
            self.turn = None
            return
        self.turn = replace(turn, n=closed.n or turn.n)
        self.publish(
            closed.outcome,
            text=closed.text,
            by_reference=closed.text_ref,
            failure=closed.failure,
            error=closed.error_id,
        )

    def publish(
        self,
        outcome: str,
        *,
        text: str = "",
        by_reference: bool = False,
        failure: str = "",
        error: str = "",
        keep_open: bool = False,
    ) -> None:
        """Tell waiters and the channel how the turn ended, and count it."""
        turn = self._open()
        if outcome == outcomes.FAILED:
            text = FailureEnvelope(kind=failure, error_id=error).apology
            self.note_failure(failure, error)
        reply = ReplyRecord(
            turn=turn.id, outcome=outcome, text=text, text_ref=turn.id if by_reference else "", error_id=error, n=turn.n
        )
        kept_back = self.end_beat(turn, outcome, text, by_reference=by_reference)
        self.replies.record(turn.scoped, reply, aside=kept_back)
        self.inbox.answered(turn.scoped)
        if turn.place is not None and turn.place.reply_address and not kept_back:
            place = turn.place
            delivery = self._delivery(turn.id, place.reply_address, place.reply_mac, failure, outcome, error)
            self.outbox.add(replace(delivery, unless_ok=by_reference and self.swallows_ok(turn)))
        self.tally = replace(self.tally, turns=self.tally.turns + 1)
        self.turns_in_run += 1
        self.idle_since_s = self.now_s()
        self.say_what_it_needs(NEEDS_FAILED if outcome == outcomes.FAILED else "")
        self.turn = replace(turn, told=True) if keep_open else None

    def _delivery(
        self, turn: str, address: str, mac: str, failure: str, outcome: str = outcomes.FAILED, error: str = ""
    ) -> Delivery:
        return Delivery(
            reply=turn,
            address=address,
            mac=mac,
            outcome=outcome,
            failure=failure,
            error_id=error or (error_id(turn, failure) if failure else ""),
        )

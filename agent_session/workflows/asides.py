"""Messages that are answered at once, beside the turns: slash commands, and whatever people say while a tool
call waits for one of them. In order, one after another, also while a turn runs.
"""

import asyncio
from dataclasses import replace
from itertools import islice

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from agent_session.workflows.background import Background
from agent_session.workflows.beats import BEATS_PATCH

with workflow.unsafe.imports_passed_through():
    from agent_session.domain import replies as outcomes
    from agent_session.domain.asides import (
        ASIDES,
        CHOOSE_MODEL,
        DECIDE,
        NEW_TALK,
        PASS_ON,
        STOP_TURN,
        AsideAnswer,
        AsideInput,
    )
    from agent_session.domain.commands import command_of, is_alias
    from agent_session.domain.ids import turn_id
    from agent_session.domain.inbox import FULL
    from agent_session.domain.limits import BATCH_BYTES, BATCH_MESSAGES
    from agent_session.domain.messages import INTERRUPT, NOTICE, PERSON, InboundMessage
    from agent_session.domain.outbox import Delivery
    from agent_session.domain.replies import ReplyRecord, preview
    from agent_session.domain.wire import Wire, from_wire, to_wire

ASIDE_TIMEOUT_S = 60
PREVIEWS = 10
PATCH = "asides"
ALIASES_PATCH = "command aliases"
DECIDED_ALREADY = "That was decided already."


class Asides(Background):
    """Takes asides out of the way of the inbox, and answers them."""

    def __init__(self, raw: Wire) -> None:
        super().__init__(raw)
        self.aside_task: asyncio.Task[None] | None = None

    def take_aside(self, message: InboundMessage) -> bool:
        """Whether the message is answered beside the turns; then it is."""
        if message.kind == NOTICE and not message.fault and workflow.patched(BEATS_PATCH):
            return self._take_notice(message)
        command = command_of(message)
        if command and is_alias(message) and not workflow.patched(ALIASES_PATCH):
            command = None
        if message.fault or not (command or self._meets_a_wait(message)) or not workflow.patched(PATCH):
            return False
        if len(self.asides) >= ASIDES:
            if command:
                self.refuse(message, "queue_full")
            return command is not None
        self._begin_aside(message)
        return True

    def _take_notice(self, message: InboundMessage) -> bool:
        """It is for people to read: where too many asides wait it is left out, and never becomes a turn."""
        if len(self.asides) < ASIDES:
            self._begin_aside(message)
        return True

    def _begin_aside(self, message: InboundMessage) -> None:
        self.inbox.aside(message)
        self.asides = (*self.asides, message)
        self.start_asides()

    def _meets_a_wait(self, message: InboundMessage) -> bool:
        """Somebody speaks while a person's turn waits for a decision. A background turn makes way instead."""
        turn = self.turn
        mine = turn is not None and turn.place is not None and not turn.is_background
        return mine and self.waits_for_a_person() and message.kind == PERSON and message.mode != INTERRUPT

    def start_asides(self) -> None:
        if self.asides and not self.rolling and (self.aside_task is None or self.aside_task.done()):
            self.aside_task = asyncio.create_task(self._answer_asides())

    async def stop_asides(self) -> None:
        """What is not answered yet is carried: answering has no effect of its own."""
        if self.aside_task is not None and not self.aside_task.done():
            self.aside_task.cancel()
            await workflow.wait([self.aside_task])

    async def _answer_asides(self) -> None:
        while self.asides and not self.rolling:
            message = self.asides[0]
            try:
                raw = await self.activity("answer_aside", self._aside_input(message), timeout_s=ASIDE_TIMEOUT_S)
            except ActivityError as error:
                if is_cancelled_exception(error):
                    if self.rolling:
                        return
                    continue  # cancelled by somebody else's hand
                self.inbox.refused(message.scoped, message.mac)
                self.refuse(message, self.envelope_of(error, message.scoped).kind)
            else:
                self._take_in(message, from_wire(AsideAnswer, raw))
            self.asides = self.asides[1:]

    def _aside_input(self, message: InboundMessage) -> Wire:
        mine = (one for one in self.inbox.people.takeable() if not one.fault and one.goes_with(message))
        place = self.turn.place if self.turn is not None else None
        request = AsideInput(
            key=self.key,
            message=message,
            status=self.current_status(),
            allowed=tuple(f"{one.tool}: {one.pattern}" for one in self.allowed),
            choice=self.choice,
            waiting=tuple(preview(one.text)[:100] for one in islice(mine, PREVIEWS)),
            foreign=place is not None and not message.goes_with(place),
            now_s=self.now_s(),
        )
        return to_wire(request)

    def _take_in(self, message: InboundMessage, answer: AsideAnswer) -> None:
        if answer.refused:
            self.inbox.refused(message.scoped, message.mac)
            self.refuse(message, "not_signed")
            return
        if answer.effect == PASS_ON and not self._pass_on(message):
            self._let_it_queue(message, answer)
            return
        if answer.effect == STOP_TURN and self.turn is not None and self.turn.id == answer.value:
            self.stop_turn(outcomes.CANCELLED)
        elif answer.effect == NEW_TALK:
            self.fresh = True
        elif answer.effect == CHOOSE_MODEL:
            self.choice, self.chosen = answer.value, True
        elif answer.effect == DECIDE and answer.decision and not self.decide(answer.call, answer.decision):
            answer = replace(answer, text=DECIDED_ALREADY, text_ref="")
        self._reply_aside(message, answer)

    def _let_it_queue(self, message: InboundMessage, answer: AsideAnswer) -> None:
        """Decided meanwhile, or of another place or person: it waits for its own turn, and its place is told
        what it waits for."""
        self.inbox.refused(message.scoped, message.mac)
        if self.inbox.accept(message) == FULL:
            self.refuse(message, "queue_full")
            return
        if self.waits_for_a_person():
            self._tell_place(message, f"{turn_id([message.scoped])}-waits", answer.text_ref)
        self.keep_memory_small()

    def _pass_on(self, message: InboundMessage) -> bool:
        """Let the words join the turn that waits, at its next step."""
        turn = self.turn
        if turn is None or turn.place is None or not self.waits_for_a_person() or not message.goes_with(turn.place):
            return False
        size = message.size_bytes + sum(one.size_bytes for one in turn.messages)
        if len(turn.messages) >= BATCH_MESSAGES or size > BATCH_BYTES:
            return False
        self.turn = replace(turn, messages=(*turn.messages, message))
        return True

    def _reply_aside(self, message: InboundMessage, answer: AsideAnswer) -> None:
        name = turn_id([message.scoped])
        reply = ReplyRecord(turn=name, outcome=outcomes.ANSWERED, text=answer.text, spool_ref=answer.text_ref)
        self.replies.record([message.scoped], reply, aside=True)
        self.inbox.answered([message.scoped])
        self._tell_place(message, name, answer.text_ref)

    def _tell_place(self, message: InboundMessage, name: str, ref: str) -> None:
        """Words of their own to the place that the message came from, if it is pushed to."""
        if message.reply_address and ref:
            self.outbox.add(Delivery(reply=name, address=message.reply_address, mac=message.reply_mac, text_ref=ref))
            self.start_deliveries()

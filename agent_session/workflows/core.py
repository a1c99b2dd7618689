"""What a session's workflow holds, and how it is carried to the next run (I7).

The live objects (inbox, replies, outbox) are made of `SessionState` and turned back into it; nothing
else survives a roll-over.
"""

import asyncio
from datetime import timedelta
from typing import Any, cast

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy, SearchAttributeKey

with workflow.unsafe.imports_passed_through():
    from agent_session.domain.ids import key_of_workflow
    from agent_session.domain.inbox import Inbox
    from agent_session.domain.options import Options, changed, options_from
    from agent_session.domain.outbox import Outbox
    from agent_session.domain.replies import Replies
    from agent_session.domain.state import SessionState, Tally
    from agent_session.domain.turns import OpenTurn
    from agent_session.domain.wire import Wire, from_wire

NEEDS = SearchAttributeKey.for_keyword("AgentSessionNeeds")
NEEDS_APPROVAL, NEEDS_FAILED = "approval", "failed"

BEHIND_PEOPLE = Priority(priority_key=5)  #: of 1 to 5; 3 is what is not said
LOST_WORKER_RETRY_S = 0.2
RETRY_GROWTH = 1.5  #: of the pauses: a step that loses one worker after another must not wait for its backoff as well
VOLUME_RETRY_S = 5.0


class SessionCore:
    """State, and the small helpers that every part of the workflow uses."""

    ends_when_idle = False  #: the one-message form

    def __init__(self, raw: Wire) -> None:
        carried = from_wire(SessionState, raw)
        self.key = key_of_workflow(workflow.info().workflow_id)  # never what the input says (I10)
        self.inbox = Inbox(carried.inbox)
        self.turn: OpenTurn | None = carried.turn
        if self.turn is not None:
            self.inbox.opened(self.turn.scoped)
        self.replies = Replies(carried.replies)
        self.outbox = Outbox(carried.outbox, carried.tally.deliveries_dropped)
        self.tally = carried.tally
        self.after_seq = carried.after_seq
        self.model = carried.model
        self.last_failure, self.last_error_id = carried.last_failure, carried.last_error_id
        self.last_error_s = carried.last_error_s
        self.closing = carried.closing
        self.needs = carried.needs
        self.options: Options = options_from(carried.options)
        self.asides = carried.asides
        for message in self.asides:
            self.inbox.aside(message)
        self.allowed, self.shell = carried.allowed, carried.shell
        self.choice, self.chosen, self.fresh = carried.choice, carried.chosen, carried.fresh
        self.beats = carried.beats
        self.turns_in_run = 0
        self.updates = 0
        self.rolling = False  #: waiters are being told to ask the next run
        self.wants_roll_over = False
        self.idle_since_s = self.now_s()
        self.step_task: asyncio.Task[None] | None = None

    def carried(self) -> SessionState:
        turn = self.turn
        return SessionState(
            key=self.key,
            inbox=self.inbox.carried(),
            turn=turn,
            replies=self.replies.carried(),
            outbox=self.outbox.carried(),
            after_seq=self.after_seq,
            tally=Tally(
                turns=self.tally.turns,
                input_tokens=self.tally.input_tokens,
                output_tokens=self.tally.output_tokens,
                cached_tokens=self.tally.cached_tokens,
                cost_microusd=self.tally.cost_microusd,
                roll_overs=self.tally.roll_overs + 1,
                deliveries_dropped=self.outbox.dropped,
            ),
            model=self.model,
            last_failure=self.last_failure,
            last_error_id=self.last_error_id,
            last_error_s=self.last_error_s,
            closing=self.closing,
            needs=self.needs,
            asides=self.asides,
            allowed=self.allowed,
            shell=self.shell,
            choice=self.choice,
            chosen=self.chosen,
            fresh=self.fresh,
            options=changed(self.options),
            beats=self.beats,
        )

    @staticmethod
    def now_s() -> int:
        return int(workflow.now().timestamp())

    def say_what_it_needs(self, needs: str) -> None:
        """One search attribute, written only when it changes: each write is an event."""
        if needs == self.needs:
            return
        self.needs = needs
        update = NEEDS.value_set(needs) if needs else NEEDS.value_unset()
        workflow.upsert_search_attributes([cast(Any, update)])

    async def activity(
        self,
        name: str,
        argument: Any,
        *,
        timeout_s: int,
        summary: str | None = None,
        attempts: int = 0,
        queue: str = "",
        background: bool = False,
    ) -> Any:
        """Run an activity; a cancel waits for its end (I5). 0.2 s is for lost workers: faults ask for
        their own delay. `attempts` 0: no limit, the activity itself says when to stop. `background`: in the
        task queue it goes behind what people wait for."""
        return await workflow.execute_activity(
            name,
            argument,
            task_queue=queue or None,
            start_to_close_timeout=timedelta(seconds=timeout_s),
            heartbeat_timeout=timedelta(seconds=self.options.heartbeat_timeout_s),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=LOST_WORKER_RETRY_S),
                backoff_coefficient=RETRY_GROWTH,
                maximum_interval=timedelta(seconds=VOLUME_RETRY_S),
                maximum_attempts=attempts,
            ),
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=summary,
            priority=BEHIND_PEOPLE if background else Priority.default,
        )

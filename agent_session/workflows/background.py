"""What goes on beside the turns and never holds them up: deliveries, spilling, the idle timer."""

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

from agent_session.workflows.core import RETRY_GROWTH
from agent_session.workflows.turn import TurnTaking

with workflow.unsafe.imports_passed_through():
    from agent_session.domain.failures import FailureEnvelope
    from agent_session.domain.ids import error_id, turn_id
    from agent_session.domain.messages import InboundMessage, parse_message
    from agent_session.domain.outbox import Delivery
    from agent_session.domain.replies import FAILED, ReplyRecord
    from agent_session.domain.spilling import SpillFile, unpack_ids
    from agent_session.domain.wire import Wire, to_wire

DAY_S = 86_400
SPILL_TIMEOUT_S = 60


class Background(TurnTaking):
    """Tasks that the main loop starts and does not await, except before a roll-over."""

    def __init__(self, raw: Wire) -> None:
        super().__init__(raw)
        self.deliveries: dict[Delivery, asyncio.Task[None]] = {}
        self.spill_task: asyncio.Task[None] | None = None
        self.idle_task: asyncio.Task[None] | None = None

    def start_deliveries(self) -> None:
        """One in flight per place, oldest first; a channel that is down holds up nobody."""
        if self.rolling:
            return
        for delivery in self.outbox.startable():
            self.deliveries[delivery] = asyncio.create_task(self._deliver(delivery))

    async def _deliver(self, delivery: Delivery) -> None:
        try:
            await workflow.execute_activity(
                "deliver",
                to_wire(delivery),
                task_queue=f"{workflow.info().task_queue}.channel.{delivery.channel}",
                start_to_close_timeout=timedelta(seconds=self.options.deliver_timeout_s),
                heartbeat_timeout=timedelta(seconds=self.options.heartbeat_timeout_s),
                retry_policy=RetryPolicy(backoff_coefficient=RETRY_GROWTH, maximum_interval=timedelta(seconds=30)),
                cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
                summary=f"{delivery.reply} to {delivery.channel}",
            )
        except (ActivityError, asyncio.CancelledError) as error:
            if not _refused_for_good(error):
                self.outbox.abandoned(delivery)  # a roll-over: the next run delivers it
                return
            workflow.logger.warning("a delivery was refused for good: %s", delivery.reply)
            self.note_failure("delivery", error_id(delivery.reply, delivery.address))
        finally:
            self.deliveries.pop(delivery, None)
        self.outbox.delivered(delivery)
        self.start_deliveries()

    async def stop_deliveries(self) -> None:
        """Un-started ones end in milliseconds, a started one finishes its post: abandoned, it would be
        posted a second time by the next run."""
        tasks = list(self.deliveries.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await workflow.wait(tasks)

    def keep_memory_small(self) -> None:
        """Start to spill when memory holds more than it may (I1)."""
        if self.spill_task is None or self.spill_task.done():
            chunk = self.inbox.people.chunk_to_spill()
            if chunk:
                self.spill_task = asyncio.create_task(self._spill(chunk))

    async def _spill(self, chunk: list[InboundMessage]) -> None:
        people = self.inbox.people
        while chunk:
            argument: dict[str, Any] = {"key": self.key, "messages": [to_wire(message) for message in chunk]}
            try:
                ref = str(await self.activity("spill", argument, timeout_s=SPILL_TIMEOUT_S))
            except ActivityError:
                people.spill_failed()  # tried again with the next message, and before a roll-over
                return
            people.spilled(ref)
            chunk = people.chunk_to_spill()

    async def load_spilled(self) -> None:
        """Read the next spill file back; the volume may be away for a while."""
        file = self.inbox.people.file_to_load()
        if file is None:
            return
        try:
            raw = await self.activity("load_spilled", {"key": self.key, "ref": file.ref}, timeout_s=SPILL_TIMEOUT_S)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            failed = self.envelope_of(error, file.ref)
            if failed.kind == "unreadable":
                self._give_up(file, failed.error_id)  # lost with a restore, or damaged: say so and go on
            else:
                await asyncio.sleep(5)
            return
        messages = [parse_message(one, fallback_id=file.ref) for one in raw]
        self.inbox.people.loaded(file, messages)

    def _give_up(self, file: SpillFile, error: str) -> None:
        """Messages that spilled and cannot be read back: each gets its apology (I6)."""
        envelope = FailureEnvelope(kind="unreadable", error_id=error)
        ids = unpack_ids(file.ids)
        self.inbox.people.loaded(file, ())
        self.inbox.answered(ids)
        reply = ReplyRecord(turn=turn_id(ids), outcome=FAILED, text=envelope.apology, error_id=error)
        self.replies.record(ids, reply)
        self.note_failure("unreadable", error)

    async def close_when_idle(self) -> None:
        """One timer a run, not one a turn."""
        while True:
            limit_s = self.options.idle_days * DAY_S
            left_s = self.idle_since_s + limit_s - self.now_s()
            if left_s <= 0 and self.turn is None and not len(self.inbox):
                self.closing = True
                return
            await asyncio.sleep(max(left_s, 60))


def _refused_for_good(error: BaseException) -> bool:
    """Only the channel's own word ends a delivery. Once a cancel is requested nothing is tried again, so an attempt
    whose worker dies as the session rolls over ends with a time-out, and one that fails with its error."""
    cause = error.cause if isinstance(error, ActivityError) else error
    return isinstance(cause, ApplicationError) and cause.non_retryable

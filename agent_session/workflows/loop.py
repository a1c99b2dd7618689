"""The main loop of a session: activities report outcomes, signals report what people do, and only this loop
advances a turn.

Keeps I6 (a bad turn never kills a session) and I7 (roll over at any step).
"""

import asyncio

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

from agent_session.workflows.asides import Asides

with workflow.unsafe.imports_passed_through():
    from agent_session.domain import replies as outcomes
    from agent_session.domain.limits import UPDATES_PER_RUN
    from agent_session.domain.turns import CLOSING
    from agent_session.domain.wire import to_wire


class SessionLoop(Asides):
    """The main loop, shared by both forms."""

    async def live(self) -> None:
        """Turn after turn, until the session is closed or rolls over."""
        if not self.ends_when_idle:
            self.idle_task = asyncio.create_task(self.close_when_idle())
        self.keep_memory_small()
        self.start_deliveries()
        self.start_asides()
        while not self.is_over():
            await workflow.wait_condition(self.has_something_to_do)
            if self.must_roll_over():
                await self.roll_over()
            if self.turn is None and self.inbox.people.file_to_load() is not None:
                await self.load_spilled()
            elif self.turn is None:
                self.open_turn()
            if self.turn is not None:
                await self.advance_turn()
            self.start_deliveries()

    def has_something_to_do(self) -> bool:
        return (
            self.turn is not None
            or self.inbox.has_batch()
            or self.inbox.people.file_to_load() is not None
            or self.must_roll_over()
            or self.is_over()
        )

    def is_over(self) -> bool:
        """Closed, or the one-message form with nothing left; never with a message, a delivery or a waiter
        that would be lost."""
        done = self.closing or self.ends_when_idle
        empty = self.turn is None and not len(self.inbox) and not len(self.outbox) and not self.asides
        return done and empty and workflow.all_handlers_finished()

    async def advance_turn(self) -> None:
        """One step of the running turn, or its closing. Only a cancel of the workflow itself gets out."""
        assert self.turn is not None
        if self.turn.phase != CLOSING and not self.turn.stop:
            await self._guarded_step()
        if self.must_close():
            await self.close_turn()

    def must_close(self) -> bool:
        return self.turn is not None and (self.turn.stop != "" or self.turn.phase == CLOSING)

    async def _guarded_step(self) -> None:
        task = self.step_task = asyncio.create_task(self.take_step())
        try:
            await workflow.wait([task])
        except asyncio.CancelledError:  # the workflow itself: end the turn, then give way
            self.stop_turn(outcomes.CANCELLED)
            await workflow.wait([task])
            if self.turn is not None and self.turn.stop:
                await self.close_turn()
            raise
        finally:
            self.step_task = None
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ActivityError) and not is_cancelled_exception(error):
            self.fail_turn(error)
        elif error is not None and not isinstance(error, ActivityError):
            raise error  # a bug: fail the workflow task, keep the session, let the fixed code go on
        elif (task.cancelled() or error is not None) and self.turn is not None and not self.turn.stop:
            self.stop_turn(outcomes.CANCELLED)  # an activity cancelled by somebody else's hand

    def must_roll_over_now(self) -> bool:
        """At the next step boundary, also in mid-turn: the run is getting long, or a drain asks."""
        info = workflow.info()
        return self.wants_roll_over or info.is_continue_as_new_suggested() or self.updates >= UPDATES_PER_RUN

    def must_roll_over(self) -> bool:
        """At this boundary. Idle sessions of an older worker version move on, too."""
        if self.must_roll_over_now():
            return True
        enough = self.turns_in_run >= self.options.turns_per_run
        return self.turn is None and (enough or workflow.info().is_target_worker_deployment_version_changed())

    async def roll_over(self) -> None:
        """Continue as new with everything (I7), on the version that is then current. Waiters are told first, so that
        they ask the next run."""
        self.rolling = True
        if self.idle_task is not None:
            self.idle_task.cancel()
        await self.stop_deliveries()
        await self.stop_asides()
        while not self._settled():
            self.keep_memory_small()
            await workflow.wait_condition(self._settled_or_idle)
            if not self._settled() and (self.spill_task is None or self.spill_task.done()):
                await asyncio.sleep(1)  # spilling failed: the volume is away
        version = workflow.info().get_current_deployment_version()
        versioned = version is not None and version.deployment_name != ""
        behavior = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE if versioned else None
        workflow.continue_as_new(args=[to_wire(self.carried())], initial_versioning_behavior=behavior)

    def _settled(self) -> bool:
        """No handler would be cut off, and memory fits into what may be carried."""
        return workflow.all_handlers_finished() and not self.inbox.people.spilling and self.inbox.people.fits()

    def _settled_or_idle(self) -> bool:
        idle = self.spill_task is None or self.spill_task.done()
        return self._settled() or (idle and workflow.all_handlers_finished())

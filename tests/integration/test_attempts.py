"""Which attempt stands behind a run: the newest that the server knows, in whatever order a worker is handed them."""

from datetime import timedelta
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from agent_session.activities.attempt import Faults, Run, StaleAttempt
from tests.support import Service, fresh_key

STALE = 0


@workflow.defn(name="OneActivity", sandboxed=False)
class OneActivity:
    @workflow.run
    async def run(self) -> int:
        found: int = await workflow.execute_activity(
            "prove",
            start_to_close_timeout=timedelta(seconds=30),
            heartbeat_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=2),
        )
        return found


async def proved_by(service: Service, order: tuple[int, ...]) -> int:
    """A run that attempts 1 and 2 of one activity join in this order, then proves itself; which one stands behind."""
    seen: dict[int, activity.Info] = {}

    @activity.defn(name="prove")
    async def prove() -> int:
        seen[activity.info().attempt] = activity.info()
        if len(seen) == 1:
            raise RuntimeError("again")
        run = Run(service.temporal)
        for attempt in order:
            run.join(seen[attempt], Faults())
        try:
            await run.prove()
        except StaleAttempt:
            return STALE
        return run.attempt

    name = fresh_key()
    one: dict[str, Any] = {"task_queue": name, "workflows": [OneActivity], "activities": [prove]}
    async with Worker(service.temporal, **one, workflow_runner=UnsandboxedWorkflowRunner()):
        return await service.temporal.execute_workflow(OneActivity.run, id=name, task_queue=name)


@pytest.mark.parametrize("order", [(1, 2), (2, 1), (2, 1, 2), (1, 2, 1)])
async def test_an_older_attempt_that_comes_late_does_not_stand_behind_the_run(
    service: Service, order: tuple[int, ...]
) -> None:
    """A worker that was paused is handed both when it wakes; the older one's proof would be refused, and the turn
    with it."""
    assert await proved_by(service, order) == 2


async def test_a_run_whose_attempt_the_server_has_given_up_proves_nothing(service: Service) -> None:
    assert await proved_by(service, (1,)) == STALE

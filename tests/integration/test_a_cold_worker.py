"""A worker that has just started replays every session that has something to do, each from its beginning."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType, TimeoutType
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from agent_session import worker
from tests.support import Service, fresh_key

SESSIONS = 80
REPLAY_S = 0.08  #: all together more than the 5 s that Temporal waits for a task which a worker has taken


class SlowRunner(SandboxedWorkflowRunner):
    """A busy machine: a replay takes long, and only one is done at a time."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        time.sleep(REPLAY_S)
        return super().create_instance(det)


async def test_a_cold_worker_takes_no_more_sessions_at_once_than_it_can_replay_in_time(
    make_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it takes and does not finish is given out again, to be replayed from its beginning once more: the more
    sessions wait, the less gets done. Those that wait at the server wait as long as they must."""
    service: Service = await make_service()
    keys = [fresh_key() for _ in range(SESSIONS)]
    async with service.worker():
        await asyncio.gather(*(service.ask(key, "remember blue") for key in keys))
    monkeypatch.setattr(worker, "SandboxedWorkflowRunner", SlowRunner)

    began = datetime.now(UTC)
    async with service.worker():
        replies = await asyncio.gather(*(service.ask(key, "what did I say?") for key in keys))

    assert all("blue" in reply.text for reply in replies)
    assert sum([await timed_out(service, key, began) for key in keys]) == 0


async def timed_out(service: Service, key: str, since: datetime) -> int:
    """Workflow tasks that a worker took and did not finish in time; none counts that only waited for its old worker,
    or that the old worker was late with."""
    return sum(
        event.workflow_task_timed_out_event_attributes.timeout_type == TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE
        for event in await service.events(key)
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT
        and event.event_time.ToDatetime(UTC) >= since
    )

"""Heartbeats, as a channel: nothing listens here and nothing is posted here. A Temporal Schedule brings each beat,
the session answers it to the beat's target (`agent_session/scheduled/`). The self-test says whether beats run.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta

from temporalio.client import Client, ScheduleActionExecutionStartWorkflow, WorkflowExecutionStatus
from temporalio.service import RPCError

from agent_session.client import SessionClient
from agent_session.connection import Unreachable, connect
from agent_session.domain.outbound import Outbound
from agent_session.scheduled.heartbeat_temporal import all_schedules
from agent_session.settings import Settings
from channels.base import Capabilities

LOOKED_AT = 100  #: heartbeats whose last beat is looked at
STUCK_S = 60  #: a beat takes a second; one that takes so long has no worker
TIMEOUT = timedelta(seconds=5)
BAD_ENDS = (WorkflowExecutionStatus.FAILED, WorkflowExecutionStatus.TIMED_OUT, WorkflowExecutionStatus.TERMINATED)


class HeartbeatChannel:
    """Neither in nor out."""

    name = "heartbeat"
    capabilities = Capabilities()

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def run(self, client: SessionClient) -> None:
        await asyncio.Event().wait()

    def check_place(self, place: str) -> None:
        raise ValueError("a heartbeat is not written to: name its target instead")

    async def deliver(self, out: Outbound) -> None:
        self.check_place(out.place)

    async def probe(self) -> str:
        """Reads every heartbeat's schedule, and how its last beat ended."""
        try:
            return await _troubles(await connect(self._settings))
        except (Unreachable, RPCError, TimeoutError) as error:
            return f"schedules cannot be read: {str(error).splitlines()[0][:300]}"


async def _troubles(client: Client) -> str:
    troubles: list[str] = []
    looked_at = 0
    async for key, found in all_schedules(client):
        looked_at += 1
        if looked_at > LOOKED_AT:
            break
        actions = [one.action for one in found.info.recent_actions] if found.info else []
        trouble = await _trouble(client, actions)
        troubles += [f"{key}: {trouble}"] if trouble else []
    return "; ".join(troubles)


async def _trouble(client: Client, actions: Sequence[object]) -> str:
    """What is wrong with the last beat of one session."""
    last = actions[-1] if actions else None
    if not isinstance(last, ScheduleActionExecutionStartWorkflow):
        return ""
    handle = client.get_workflow_handle(last.workflow_id, run_id=last.first_execution_run_id)
    try:
        beat = await handle.describe(rpc_timeout=TIMEOUT)
    except RPCError:
        return ""  # Temporal has forgotten it
    if beat.status in BAD_ENDS:
        return "its last beat failed; the worker's log says why (agent-session logs)"
    if beat.status == WorkflowExecutionStatus.RUNNING and time.time() - beat.start_time.timestamp() > STUCK_S:
        return "its last beat waits: no worker takes it"
    return ""


def create(settings: Settings) -> HeartbeatChannel:
    return HeartbeatChannel(settings)

"""What only Temporal and the volume know, looked up now and then for the metrics: how much waits, how many sessions
live, how the last synthetic probes went. Asked by gateways alone, which are few; a worker would ask for each of many.
"""

import asyncio
import time
from contextlib import suppress

import structlog
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue, TaskQueueStats
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError

from agent_session.client import SESSIONS_QUERY
from agent_session.settings import Settings
from agent_session.telemetry import metrics
from agent_session.telemetry.probes import last_probes
from channels import channel_names, load_channel, missing

BACKLOG_EVERY_S = 15.0
SESSIONS_EVERY_S = 60.0
NEEDS = ("approval", "failed")
WORKFLOWS, ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY

log = structlog.get_logger("agent_session.gateway")


class Gauges:
    """One a gateway process."""

    def __init__(self, temporal: Client, settings: Settings) -> None:
        self._temporal, self._settings = temporal, settings
        self._queues = {"sessions": settings.task_queue}
        for name in channel_names():
            if load_channel(name, settings).capabilities.delivers and not missing(name, settings):
                self._queues[f"channel.{name}"] = f"{settings.task_queue}.channel.{name}"
        self._counted_at = 0.0

    async def run(self) -> None:
        """Until cancelled. What cannot be had keeps the value that it had."""
        while True:
            try:
                await self.look()
            except Exception as error:  # of metrics, the gateway must not die
                log.warning("the gateway's gauges could not be read", error=f"{type(error).__name__}: {error}"[:300])
            await asyncio.sleep(BACKLOG_EVERY_S)

    async def look(self) -> None:
        """Errors: RPCError."""
        for shown, probe in (await asyncio.to_thread(last_probes, self._settings.data_dir)).items():
            metrics.probe_success.labels(shown).set(probe.ok)
            metrics.probe_duration.labels(shown).set(probe.seconds)
            metrics.probe_time.labels(shown).set(probe.at)
        for shown, queue in self._queues.items():
            kinds = (WORKFLOWS, ACTIVITIES) if shown == "sessions" else (ACTIVITIES,)
            found = await asyncio.gather(*(self._backlog(queue, kind) for kind in kinds))
            metrics.backlog_tasks.labels(shown).set(sum(tasks for tasks, _ in found))
            metrics.backlog_age.labels(shown).set(max(age_s for _, age_s in found))
        if time.monotonic() - self._counted_at > SESSIONS_EVERY_S:
            await self._count_sessions()
            self._counted_at = time.monotonic()

    async def _backlog(self, queue: str, kind: TaskQueueType.ValueType) -> tuple[int, float]:
        described = await self._temporal.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=self._temporal.namespace,
                task_queue=TaskQueue(name=queue),
                task_queue_type=kind,
                report_stats=True,
            )
        )
        every: list[TaskQueueStats] = [described.stats, *described.stats_by_priority_key.values()]
        tasks = described.stats.approximate_backlog_count
        age = max(one.approximate_backlog_age.ToTimedelta().total_seconds() for one in every)
        return tasks, age if tasks else 0.0

    async def _count_sessions(self) -> None:
        live = f"{SESSIONS_QUERY} AND ExecutionStatus = 'Running'"
        with suppress(RPCError):  # some servers count nothing
            total = (await self._temporal.count_workflows(live)).count
            for need in NEEDS:
                found = (await self._temporal.count_workflows(f"{live} AND AgentSessionNeeds = '{need}'")).count
                metrics.sessions.labels(need).set(found)
                total -= found
            metrics.sessions.labels("nothing").set(max(0, total))

"""What only Temporal and the volume know, looked up now and then for the metrics: whether they answer, how much waits,
how many sessions live, how the last synthetic probes went. Asked by gateways alone, which are few; a worker would ask
for each of many.

Every look is bounded, and what could not be had is left out of the metrics: an old value would say that all is well.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import structlog
from prometheus_client import Gauge
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue, TaskQueueStats
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from agent_session.client import SESSIONS_QUERY
from agent_session.gateway.probe import Probe
from agent_session.settings import Settings
from agent_session.telemetry import metrics, probes
from agent_session.transcript.volume import Volume
from channels import channel_names, load_channel, missing

BACKLOG_EVERY_S = 15.0
SESSIONS_EVERY_S = 60.0
LOOK_S = 10.0  #: each part of a look, at most
NEVER = float("-inf")
WAITING_LISTED = 5_000  #: sessions that wait for a decision; of more, those that began last
APPROVAL = "approval"
NEEDS = (APPROVAL, "failed")
WORKFLOWS, ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY

BACKLOG = (metrics.backlog_tasks, metrics.backlog_age)
SESSIONS = (metrics.sessions, metrics.needs_oldest)

log = structlog.get_logger("agent_session.gateway")


@dataclass(frozen=True)
class Backlog:
    tasks: int
    age_s: float
    polled: bool


class Gauges:
    """One a gateway process."""

    def __init__(self, temporal: Client, settings: Settings) -> None:
        self._temporal, self._settings = temporal, settings
        self._probe = Probe(temporal, Volume(settings.data_dir), settings.task_queue)
        self._queues, self._always = {"sessions": settings.task_queue}, {"sessions"}
        for name in channel_names():
            if load_channel(name, settings).capabilities.delivers:
                self._queues[f"channel.{name}"] = f"{settings.task_queue}.channel.{name}"
                if not missing(name, settings):  # others are configured where they run: their tokens are not here
                    self._always.add(f"channel.{name}")
        self._counted_at = NEVER
        self._waiting: dict[str, float] = {}  #: sessions that wait for a decision, and since when we know
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="probes")  # its own: a mount may hang for ever
        self._reading: Future[dict[str, probes.Probe]] | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except Exception as error:  # of metrics, the gateway must not die
                _warn(error)
            await asyncio.sleep(BACKLOG_EVERY_S)

    async def look(self) -> None:
        temporal, volume = await self._readiness()
        if volume:
            await self._probes()
        await self._bounded(self._backlogs, BACKLOG, temporal)
        if not temporal or time.monotonic() - self._counted_at > SESSIONS_EVERY_S:
            self._counted_at = time.monotonic() if temporal else NEVER
            await self._bounded(self._sessions, SESSIONS, temporal)

    @staticmethod
    async def _bounded(looking: Callable[[], Awaitable[None]], gauges: Sequence[Gauge], temporal: bool) -> None:
        try:
            if temporal:
                async with asyncio.timeout(LOOK_S):
                    await looking()
                return
        except Exception as error:  # RPCError from servers that count nothing, TimeoutError
            _warn(error)
        for gauge in gauges:
            gauge.clear()

    async def _readiness(self) -> tuple[bool, bool]:
        """Whether Temporal and the volume are there."""
        found = await self._probe.found()
        metrics.ready.labels("temporal").set(found.temporal)
        metrics.ready.labels("volume").set(found.volume)
        if found.temporal:
            metrics.ready.labels("worker").set(found.worker)
        else:
            with suppress(KeyError):
                metrics.ready.remove("worker")  # nobody knows
        return found.temporal, found.volume

    async def _probes(self) -> None:
        """A probe carries its own time, so the known ones stay while the volume does not answer."""
        if self._reading is not None and not self._reading.done():
            return
        self._reading = self._thread.submit(probes.last_probes, self._settings.data_dir)
        try:
            async with asyncio.timeout(LOOK_S):
                found = await asyncio.shield(asyncio.wrap_future(self._reading))
        except TimeoutError:
            return
        for gauge in (metrics.probe_success, metrics.probe_duration, metrics.probe_time):
            gauge.clear()
        for shown, probe in found.items():
            metrics.probe_success.labels(shown).set(probe.ok)
            metrics.probe_duration.labels(shown).set(probe.seconds)
            metrics.probe_time.labels(shown).set(probe.at)

    async def _backlogs(self) -> None:
        found = dict(zip(self._queues, await asyncio.gather(*map(self._of_queue, self._queues)), strict=True))
        for gauge in BACKLOG:
            gauge.clear()
        for shown, every in found.items():
            if shown in self._always or any(one.polled or one.tasks for one in every):
                metrics.backlog_tasks.labels(shown).set(sum(one.tasks for one in every))
                metrics.backlog_age.labels(shown).set(max(one.age_s for one in every))

    async def _of_queue(self, shown: str) -> list[Backlog]:
        kinds = (WORKFLOWS, ACTIVITIES) if shown == "sessions" else (ACTIVITIES,)
        return await asyncio.gather(*(self._backlog(self._queues[shown], kind) for kind in kinds))

    async def _backlog(self, queue: str, kind: TaskQueueType.ValueType) -> Backlog:
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
        return Backlog(tasks, age if tasks else 0.0, bool(described.pollers))

    async def _sessions(self) -> None:
        live = f"{SESSIONS_QUERY} AND ExecutionStatus = 'Running' AND TaskQueue = '{self._settings.task_queue}'"
        count = self._temporal.count_workflows
        total, *found = [
            one.count
            for one in await asyncio.gather(
                count(live), *(count(f"{live} AND AgentSessionNeeds = '{need}'") for need in NEEDS)
            )
        ]
        waiting = [
            one.id
            async for one in self._temporal.list_workflows(
                f"{live} AND AgentSessionNeeds = '{APPROVAL}'", limit=WAITING_LISTED
            )
        ]
        for need, number in zip(NEEDS, found, strict=True):
            metrics.sessions.labels(need).set(number)
        metrics.sessions.labels("nothing").set(max(0, total - sum(found)))
        now = time.monotonic()
        self._waiting = {session: self._waiting.get(session, now) for session in waiting}
        metrics.needs_oldest.labels(APPROVAL).set(now - min(self._waiting.values(), default=now))


def _warn(error: Exception) -> None:
    log.warning("the gateway's gauges could not be read", error=f"{type(error).__name__}: {error}"[:300])

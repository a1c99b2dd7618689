"""The builds of a worker deployment, as Temporal knows them: which is current, who polls, how many sessions each holds.

Used by a deploy step, never by a worker: one that made itself current would take every session with it when it
is started by mistake.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from temporalio.api.deployment.v1 import WorkerDeploymentInfo
from temporalio.api.enums.v1 import TaskQueueType, WorkerDeploymentVersionStatus
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
    SetWorkerDeploymentRampingVersionRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from agent_session.client import SESSIONS_QUERY, SessionError

POLLED_S = 75.0  #: a poll lasts a minute at most, so whoever has not polled for longer is gone
LOOK_S = 0.5
SETTLE_S = 60.0  #: how long Temporal may take to tell all its parts of a new current version
NOT_IN_A_QUERY = "'\"\\:"
STATES = {
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_CURRENT: "current",
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_RAMPING: "ramping",
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINING: "draining",
    WorkerDeploymentVersionStatus.WORKER_DEPLOYMENT_VERSION_STATUS_DRAINED: "drained",
}


class BadDeploy(ValueError):
    """What was asked for cannot be done to this deployment: what is wrong, and what to do."""


class DeployFailed(SessionError):
    """It was tried, and it did not work out in time."""


@dataclass(frozen=True)
class Version:
    """One build."""

    build: str
    state: str  #: current, ramping, draining or drained (as Temporal last looked, minutes ago), inactive: never used
    percent: float = 0.0  #: of new sessions that go to it while it is ramping
    created_s: float = 0.0  #: seconds since the epoch
    sessions: int = 0  #: that live and are pinned to it; Temporal counts them a second or so behind
    workers: tuple[str, ...] = ()  #: identities that poll the task queue with this build, or did within 75 s


@dataclass(frozen=True)
class Found:
    """A deployment as it is now."""

    name: str
    versions: tuple[Version, ...] = ()  #: newest first
    unversioned_sessions: int = 0
    unversioned_workers: tuple[str, ...] = ()
    settled: bool = True  #: the task queue knows which version is current, or ramping

    @property
    def current(self) -> Version | None:
        return next((one for one in self.versions if one.state == "current"), None)

    def version(self, build: str) -> Version:
        """Errors: BadDeploy, which names those that there are."""
        for one in self.versions:
            if one.build == build:
                return one
        known = ", ".join(one.build for one in self.versions) or "none"
        raise BadDeploy(
            f"deployment {self.name!r} has no build {build!r} (known: {known}): a build is known once a worker with "
            f"worker.deployment={self.name} and worker.build_id={build} has started"
        )


@dataclass
class Deployment:
    """One named deployment on one task queue. Errors of every call: RPCError when Temporal does not answer."""

    client: Client
    name: str
    task_queue: str
    _service: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_name(self.name, "deployment")
        self._service = self.client.workflow_service

    async def look(self, *, count: bool = True) -> Found:
        """Everything that is known of it now. `count`: also how many sessions each build has. Errors: BadDeploy when no
        versioned worker of this name has ever started."""
        info, queue = await self._described(), await self._queue()
        pollers = self._pollers(queue)
        builds = [one.deployment_version.build_id for one in info.version_summaries]
        counts = await asyncio.gather(*(self._count(self.pinned_to(one)) if count else _nothing() for one in builds))
        versions = [
            Version(
                build=summary.deployment_version.build_id,
                state=STATES.get(summary.status, "inactive"),
                percent=_percent(info, summary.deployment_version.build_id),
                created_s=summary.create_time.ToMilliseconds() / 1000,
                sessions=sessions,
                workers=tuple(pollers.get(summary.deployment_version.build_id, ())),
            )
            for summary, sessions in zip(info.version_summaries, counts, strict=True)
        ]
        return Found(
            name=self.name,
            versions=tuple(sorted(versions, key=lambda one: -one.created_s)),
            unversioned_sessions=await self._count(self._unversioned()) if count else 0,
            unversioned_workers=tuple(pollers.get("", ())),
            settled=_knows(queue, info),
        )

    async def make_current(self, build: str, *, wait_s: float) -> str:
        """New sessions start on `build`, and others move to it as they roll over. Waits up to `wait_s` for a worker of
        it. Returns what was current before (empty: nothing). Errors: BadDeploy, DeployFailed."""
        deadline = time.monotonic() + wait_s
        found = await self._until_polled(build, deadline)
        before = found.current.build if found.current is not None else ""
        if before != build:
            wanted = SetWorkerDeploymentCurrentVersionRequest(
                namespace=self.client.namespace, deployment_name=self.name, build_id=build, identity="deploy"
            )
            await self._set(self._service.set_worker_deployment_current_version, wanted, deadline)
        await self.until_settled()
        return before

    async def ramp(self, build: str, percent: float, *, wait_s: float) -> None:
        """So many percent of sessions start on `build`, or move to it as they roll over; the same ones each time. 0
        ends it. Errors: BadDeploy, DeployFailed."""
        if not 0 <= percent <= 100:
            raise BadDeploy(f"{percent:g} is no percentage: 0 to 100")
        deadline = time.monotonic() + wait_s
        found = await self._until_polled(build, deadline) if percent else await self.look(count=False)
        if found.version(build).state == "current":
            raise BadDeploy(f"build {build!r} is the current version already: all new sessions start on it")
        wanted = SetWorkerDeploymentRampingVersionRequest(
            namespace=self.client.namespace,
            deployment_name=self.name,
            build_id=build if percent else "",
            percentage=percent,
            identity="deploy",
        )
        await self._set(self._service.set_worker_deployment_ramping_version, wanted, deadline)
        await self.until_settled()

    def pinned_to(self, build: str) -> str:
        """The visibility query of what holds a build's workers up: sessions on it, and whatever else is pinned."""
        check_name(build, "build")
        return (
            f"TemporalWorkerDeploymentVersion = '{self.name}:{build}' AND ExecutionStatus = 'Running' "
            f"AND (TemporalWorkflowVersioningBehavior = 'Pinned' OR {SESSIONS_QUERY})"
        )

    def _unversioned(self) -> str:
        return (
            f"TaskQueue = '{self.task_queue}' AND TemporalWorkerDeploymentVersion IS NULL "
            f"AND ExecutionStatus = 'Running' AND {SESSIONS_QUERY}"
        )

    async def _count(self, query: str) -> int:
        return (await self.client.count_workflows(query)).count

    async def _described(self) -> WorkerDeploymentInfo:
        try:
            found = await self._service.describe_worker_deployment(
                DescribeWorkerDeploymentRequest(namespace=self.client.namespace, deployment_name=self.name)
            )
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            raise BadDeploy(
                f"Temporal knows no deployment {self.name!r}: start a worker with worker.deployment={self.name} and a "
                "worker.build_id, or check the name"
            ) from None
        return found.worker_deployment_info

    async def _queue(self) -> DescribeTaskQueueResponse:
        found: DescribeTaskQueueResponse = await self._service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=self.client.namespace,
                task_queue=TaskQueue(name=self.task_queue),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
            )
        )
        return found

    def _pollers(self, queue: DescribeTaskQueueResponse) -> dict[str, list[str]]:
        """Identities by build; those without a version are under the empty one."""
        now, found = datetime.now(UTC).timestamp(), dict[str, list[str]]()
        for poller in queue.pollers:
            if now - poller.last_access_time.ToSeconds() < POLLED_S:
                options = poller.deployment_options
                build = options.build_id if options.deployment_name == self.name else ""
                found.setdefault(build, []).append(poller.identity)
        return found

    async def _until_polled(self, build: str, deadline: float) -> Found:
        """New workers may be starting still."""
        while True:
            try:
                found = await self.look(count=False)
                if found.version(build).workers:
                    return found
                problem = BadDeploy(
                    f"no worker of build {build!r} polls {self.task_queue!r}: start its workers first (sessions sent "
                    "to a build without workers hang)"
                )
            except BadDeploy as error:
                problem = error
            if time.monotonic() >= deadline:
                raise problem
            await asyncio.sleep(LOOK_S)

    async def until_settled(self) -> None:
        """Until the task queue knows which version is current. Errors: DeployFailed after a minute."""
        deadline = time.monotonic() + SETTLE_S
        while not _knows(await self._queue(), await self._described()):
            if time.monotonic() > deadline:
                raise DeployFailed(
                    f"the task queue {self.task_queue!r} has not heard of the change within {SETTLE_S:.0f} s: do its "
                    "workers have this worker.deployment? Else try again; agent-session deploy list shows it"
                )
            await asyncio.sleep(LOOK_S)

    async def _set(self, call: Callable[[Any], Awaitable[Any]], wanted: Any, deadline: float) -> None:
        """Temporal hears of a new worker's polls one by one: it refuses a version whose activities nobody has polled
        for yet ("missing active task queues"), so that is asked again until the deadline."""
        while True:
            try:
                await call(wanted)
            except RPCError as error:
                if error.status not in (RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.INVALID_ARGUMENT):
                    raise
                if error.status == RPCStatusCode.INVALID_ARGUMENT or time.monotonic() >= deadline:
                    raise DeployFailed(f"Temporal refuses: {error.message}") from None
            else:
                return
            await asyncio.sleep(LOOK_S)


def check_name(name: str, what: str) -> None:
    """Names go into queries, and Temporal joins them with a colon. Errors: BadDeploy."""
    if not name or any(sign in NOT_IN_A_QUERY for sign in name) or not name.isprintable():
        raise BadDeploy(f"{name!r} is no name of a {what}: printable, without quotes, backslashes and colons")


async def _nothing() -> int:
    return 0


def _percent(info: WorkerDeploymentInfo, build: str) -> float:
    routing = info.routing_config
    return routing.ramping_version_percentage if routing.ramping_deployment_version.build_id == build else 0.0


def _knows(queue: DescribeTaskQueueResponse, info: WorkerDeploymentInfo) -> bool:
    """Whether the queue sends tasks where the deployment says. The deployment's own word for it
    (`routing_config_update_state`) is not asked: on server 1.32 it can stay at "in progress" for good."""
    there, said = queue.versioning_info, info.routing_config
    return (
        there.current_deployment_version == said.current_deployment_version
        and there.ramping_deployment_version == said.ramping_deployment_version
        and there.ramping_version_percentage == said.ramping_version_percentage
    )

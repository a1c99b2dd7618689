"""Moves every session off a build, so that its workers can be stopped.

A deploy wakes no idle session, and once the workers of its build are gone its messages hang. So each session that is
pinned to the build is asked to roll over: an idle one does so at once, one with a running turn at its next step
boundary, one that waits for an approval at once, too; the run after that starts on the current version. Safe to
repeat, to interrupt and to run twice at once: a request names the run that it is for.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from google.protobuf.field_mask_pb2 import FieldMask
from temporalio.api.common.v1 import WorkflowExecution as Execution
from temporalio.api.deployment.v1 import WorkerDeploymentVersion
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import VersioningOverride, WorkflowExecutionOptions
from temporalio.api.workflowservice.v1 import UpdateWorkflowExecutionOptionsRequest
from temporalio.client import WorkflowExecution
from temporalio.service import RPCError, RPCStatusCode

from agent_session.client import SESSION_WORKFLOW, TURN_WORKFLOW
from agent_session.ops.deploy.versions import BadDeploy, DeployFailed, Deployment, Found

SESSIONS = (SESSION_WORKFLOW, TURN_WORKFLOW)  #: whatever else is pinned is short, and waited for
AT_ONCE = 32
LOOK_S = 1.0
EMPTY_LOOKS = 3  #: in a row: Temporal's list of sessions is a second or so behind
TRY_LATER = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.RESOURCE_EXHAUSTED,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.ABORTED,
    RPCStatusCode.INTERNAL,
)


@dataclass(frozen=True)
class Drained:
    """How it ended."""

    moved: int  #: sessions that were on the build and are not any more
    left: tuple[str, ...]  #: workflow ids of what is still on it; none: its workers may stop
    seconds: float


@dataclass
class Drain:
    """One drain of one build. `say` gets a line whenever something changed."""

    deployment: Deployment
    build: str
    timeout_s: float
    per_second: float  #: requests; each costs a worker of the current version a start of the session there
    gone: bool  #: its workers are gone for good: the current version's workers replay the sessions' histories
    say: Callable[[str], None]
    asked: set[str] = field(default_factory=lambda: set[str]())  #: run ids
    seen: set[str] = field(default_factory=lambda: set[str]())  #: workflow ids
    _given: dict[str, str] = field(
        default_factory=lambda: dict[str, str]()
    )  #: run ids of those given to the current one
    _current: str = ""

    async def run(self) -> Drained:
        """Until nothing is left, or the time is up. Errors: BadDeploy when it cannot work, RPCError."""
        began, left, empty, said = time.monotonic(), set[str](), 0, ""
        self._refuse(await self.deployment.look())
        await self.deployment.until_settled()  # else they would come back to the old one
        while True:
            try:
                left = await self._look(began + self.timeout_s) | await self._not_taken_yet()
                empty = empty + 1 if not left else 0
                words = f"{len(self.seen - left)} moved, {len(left)} left"
            except RPCError as error:
                if error.status not in TRY_LATER:
                    raise
                empty, words = 0, f"Temporal does not answer ({error.status.name}); trying on"
            seconds = time.monotonic() - began
            if words != said:
                self.say(f"{seconds:6.1f} s: {words}")
            said = words
            if empty >= EMPTY_LOOKS or seconds > self.timeout_s:
                if self.gone:
                    await self._give_back()
                return Drained(len(self.seen - left), tuple(sorted(left)), round(seconds, 1))
            await asyncio.sleep(LOOK_S)

    def _refuse(self, found: Found) -> None:
        """What could not end well is not begun."""
        mine, current = found.version(self.build), found.current
        self._current = current.build if current is not None else ""
        if current is None:
            raise BadDeploy(f"deployment {found.name!r} has no current version: deploy current BUILD comes first")
        if current.build == self.build:
            raise BadDeploy(
                f"build {self.build!r} is the current version, its sessions have nowhere to go: make another one "
                "current first (deploy current BUILD)"
            )
        if mine.state == "ramping":
            raise BadDeploy(
                f"build {self.build!r} is ramping, its sessions would come back to it: end that first "
                f"(deploy ramp {self.build} 0)"
            )
        if not current.workers:
            raise BadDeploy(
                f"no worker of the current version {current.build!r} polls {self.deployment.task_queue!r}: start them "
                "first, or nobody could take the sessions"
            )
        if mine.sessions and not mine.workers and not self.gone:
            raise BadDeploy(
                f"{mine.sessions} sessions are on build {self.build!r} and none of its workers polls: start one again "
                f"(best), or let {current.build!r} take them as they are: --gone"
            )

    async def _look(self, deadline: float) -> set[str]:
        """Ask those that were not asked yet; returns the workflow ids of all that are still there."""
        left, asking, next_at = set[str](), set[asyncio.Task[None]](), time.monotonic()
        try:
            async for one in self.deployment.client.list_workflows(self.deployment.pinned_to(self.build)):
                left.add(one.id)
                self.seen.add(one.id)
                if one.run_id in self.asked or one.workflow_type not in SESSIONS or time.monotonic() > deadline:
                    continue
                next_at = max(next_at + 1 / self.per_second, time.monotonic())
                await asyncio.sleep(next_at - time.monotonic())
                asking.add(asyncio.create_task(self._ask(one)))
                if len(asking) >= AT_ONCE:
                    done, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
        finally:
            await asyncio.gather(*asking)
        return left

    async def _ask(self, one: WorkflowExecution) -> None:
        """To this very run: when it has rolled over meanwhile, there is nothing to ask. What Temporal cannot take now
        is asked again at the next look."""
        try:
            if self.gone:
                await self._give(one.id, one.run_id)
            handle = self.deployment.client.get_workflow_handle(one.id, run_id=one.run_id)
            await handle.signal("roll_over", None)
        except RPCError as error:
            if error.status in (*TRY_LATER, RPCStatusCode.INVALID_ARGUMENT):
                return
            if error.status not in (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION):
                raise
        self.asked.add(one.run_id)

    async def _give(self, name: str, run: str) -> None:
        """To the current version, until one workflow task is done there: then the session is pinned there. Errors:
        DeployFailed on a server that cannot, RPCError."""
        to = WorkerDeploymentVersion(deployment_name=self.deployment.name, build_id=self._current)
        override = VersioningOverride(one_time=VersioningOverride.OneTimeOverride(target_deployment_version=to))
        try:
            await self._override(name, run, override)
        except RPCError as error:
            if error.status != RPCStatusCode.INVALID_ARGUMENT:
                raise
            raise DeployFailed(f"--gone needs Temporal server 1.32 or later; this one says: {error.message}") from None
        self._given[name] = run

    async def _not_taken_yet(self) -> set[str]:
        """Those given to the current version that it has done nothing of; Temporal lists them as being there."""
        for name, run in list(self._given.items()):
            handle = self.deployment.client.get_workflow_handle(name, run_id=run)
            described = (await handle.describe()).raw_description.workflow_execution_info
            running = described.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
            if not (running and described.versioning_info.HasField("versioning_override")):
                del self._given[name]
        return set(self._given)

    async def _give_back(self) -> None:
        """Those that the current version could not take wait for their own build again, should it come back."""
        for name, run in self._given.items():
            with suppress(RPCError):  # it has ended in this moment, or Temporal is away: then it is as it was
                await self._override(name, run, None)

    async def _override(self, name: str, run: str, override: VersioningOverride | None) -> None:
        await self.deployment.client.workflow_service.update_workflow_execution_options(
            UpdateWorkflowExecutionOptionsRequest(
                namespace=self.deployment.client.namespace,
                workflow_execution=Execution(workflow_id=name, run_id=run),
                workflow_execution_options=WorkflowExecutionOptions(versioning_override=override),
                update_mask=FieldMask(paths=["versioning_override"]),
            )
        )

"""The activities as Temporal sees them: mappings in, mappings out, names that workflows use.

Wiring only: each reads its input, joins or starts the work of this process, and turns what goes wrong
into a failure without content.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetStickyTaskQueueRequest
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from agent_session.activities.answer_aside import answer_aside
from agent_session.activities.attempt import Faults, Run, Runs, faults_so_far
from agent_session.activities.execute_tool import run_call
from agent_session.activities.faults import (
    ForeignSession,
    WorkerLost,
    failure_of,
    give_up_on_lost_workers,
    lost_workers,
    retry_text,
)
from agent_session.activities.llm_chat import take_step
from agent_session.activities.record_turn import close_turn
from agent_session.domain.asides import AsideInput
from agent_session.domain.ids import call_id, workflow_id
from agent_session.domain.options import Options
from agent_session.domain.turns import CloseInput, StepInput, ToolInput
from agent_session.domain.wire import Wire, from_wire, to_wire
from agent_session.live.events import RETRY, LiveEvent
from agent_session.operations import Services
from agent_session.settings import Settings
from agent_session.telemetry import steps
from agent_session.transcript import spool

NO_LIMIT_S = 10**9  #: a turn is closed when the volume is back, whenever that is


def options_of(settings: Settings) -> Options:
    """The settings that the workflow acts on."""
    return Options(
        model_timeout_s=settings.model.timeout_s,
        model_attempts=settings.model.attempts,
        tool_attempts=settings.tools.attempts,
        record_timeout_s=settings.operations.record_timeout_s,
        deliver_timeout_s=settings.operations.deliver_timeout_s,
        heartbeat_timeout_s=settings.worker.heartbeat_timeout_s,
        volume_patience_s=settings.volume.patience_s,
        max_steps=settings.model.max_steps,
        turns_per_run=settings.session.turns_per_run,
        approval_timeout_s=settings.tools.approval_timeout_s,
        idle_days=settings.session.idle_days,
        heartbeat_daily_tokens=settings.heartbeat.daily_tokens,
        heartbeat_swallow=int(settings.heartbeat.swallow_ok),
    )


class SessionActivities:
    """One object a worker."""

    def __init__(self, services: Services, client: Client) -> None:
        self._services = services
        self._options = options_of(services.settings)
        self._client, self._runs = client, Runs(client)
        self._asking = set[asyncio.Task[None]]()

    def all(self) -> list[Callable[..., Any]]:
        return [self.llm_chat, self.execute_tool, self.record_turn, self.answer_aside, self.spill, self.load_spilled]

    @activity.defn(name="llm_chat")
    async def llm_chat(self, raw: Wire) -> Wire:
        step = from_wire(StepInput, raw)
        name = f"{step.key}\n{step.turn}/{step.step}"

        async def work(run: Run) -> Wire:
            return to_wire(await take_step(self._services, self._options, step, run))

        return await self._do(step.key, name, f"{step.turn}/{step.step}", work)

    @activity.defn(name="execute_tool")
    async def execute_tool(self, raw: Wire) -> Wire:
        request = from_wire(ToolInput, raw)
        call = call_id(request.turn, request.step, request.index)

        async def work(run: Run) -> Wire:
            return to_wire(await run_call(self._services, request, run))

        return await self._do(request.key, f"{request.key}\n{call}", f"{request.turn}/{request.step}", work)

    @activity.defn(name="record_turn")
    async def record_turn(self, raw: Wire) -> Wire:
        request = from_wire(CloseInput, raw)

        async def work(run: Run) -> Wire:
            return to_wire(await close_turn(self._services, request, run))

        name = f"{request.key}\n{request.turn}/close"
        return await self._do(request.key, name, f"{request.turn}/close", work, patience_s=NO_LIMIT_S)

    @activity.defn(name="answer_aside")
    async def answer_aside(self, raw: Wire) -> Wire:
        """Answer a message beside the turns."""
        request = from_wire(AsideInput, raw)

        async def work(run: Run) -> Wire:
            return to_wire(await answer_aside(self._services, request))

        return await self._do(request.key, f"{request.key}\naside/{activity.info().activity_id}", "aside", work)

    @activity.defn(name="spill")
    async def spill(self, raw: Wire) -> str:
        """Write messages that memory need not hold to one write-once file; returns its reference."""
        key, messages = str(raw["key"]), raw["messages"]

        async def work(run: Run) -> str:
            return await asyncio.to_thread(spool.put, self._services.volume, key, orjson.dumps(messages))

        return await self._do(key, f"{key}\nspill/{activity.info().activity_id}", "spill", work)

    @activity.defn(name="load_spilled")
    async def load_spilled(self, raw: Wire) -> list[Wire]:
        key, ref = str(raw["key"]), str(raw["ref"])

        async def work(run: Run) -> list[Wire]:
            try:
                data = await asyncio.to_thread(spool.get, self._services.volume, key, ref)
            except FileNotFoundError:
                waited = datetime.now(UTC) - activity.info().scheduled_time
                if waited.total_seconds() < self._services.settings.volume.catch_up_s:
                    raise  # NFS may lag
                raise spool.BadReference(f"the spilled messages {ref} are gone") from None
            return orjson.loads(data)

        return await self._do(key, f"{key}\nload/{ref}", "load", work)

    async def _do(
        self,
        key: str,
        name: str,
        correlation: str,
        work: Callable[[Run], Awaitable[Any]],
        patience_s: int | None = None,
    ) -> Any:
        info = activity.info()
        options = self._options if patience_s is None else replace(self._options, volume_patience_s=patience_s)
        faults: Faults = faults_so_far()
        with structlog.contextvars.bound_contextvars(
            id=f"{key}/{correlation}", activity=info.activity_type, attempt=info.attempt
        ):
            try:
                if info.workflow_id != workflow_id(key):
                    raise ForeignSession(f"workflow {info.workflow_id!r} asked for another session")
                if give_up_on_lost_workers(faults):
                    raise WorkerLost(f"given up after {info.attempt - 1} attempts that lost their worker")
                if lost_workers(faults):
                    self._forget_worker(info)
                with steps.under_way(info.activity_type, steps.name_of(info), info.scheduled_time.timestamp()):
                    return await self._runs.join(name, work, faults)
            except Exception as error:
                failure = failure_of(error, faults, options)
                self._tell_watchers(key, correlation, failure)
                raise failure from None

    def _forget_worker(self, info: activity.Info) -> None:
        """The worker that had this step is gone, and it mostly had the session in memory, too: without this, the step's
        result would wait for it (`worker.STICKY`) before another worker takes it up. Best effort, beside the step."""
        wanted = ResetStickyTaskQueueRequest(
            namespace=info.namespace,
            execution=WorkflowExecution(workflow_id=info.workflow_id or "", run_id=info.workflow_run_id or ""),
        )

        async def ask() -> None:
            with suppress(RPCError):
                await self._client.workflow_service.reset_sticky_task_queue(wanted)

        task = asyncio.create_task(ask())
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    def _tell_watchers(self, key: str, correlation: str, failure: ApplicationError) -> None:
        """What they saw of this attempt is void; the retry's answer is the one that counts."""
        if activity.info().activity_type != "llm_chat" or failure.non_retryable:
            return
        delay = failure.next_retry_delay
        text = retry_text(failure.type or "", delay.total_seconds() if delay else 0.0, activity.info().attempt + 1)
        self._services.live.publish(LiveEvent(session=key, kind=RETRY, turn=correlation.partition("/")[0], text=text))

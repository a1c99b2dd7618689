"""A worker: takes steps of any session that lives on its volume. Wiring only; any number of replicas.

Time-outs are the measured ones of docs/architecture.md: heartbeats reach the server every second, so a
cancel is quick and a killed worker costs a running turn at most 6 s.
"""

import asyncio
import os
import socket
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import Worker, WorkerDeploymentConfig
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from agent_session.activities.deliver import DeliverActivity, DeliversReplies
from agent_session.activities.session_activities import SessionActivities
from agent_session.operations import Services
from agent_session.query_guard import guarded_worker
from agent_session.scheduled.heartbeat import HeartbeatActivity
from agent_session.scheduled.schedules_agent import AgentSchedules
from agent_session.scheduled.schedules_send import ScheduleActivity
from agent_session.settings import BadSettings, Settings
from agent_session.telemetry.interceptor import worker_interceptors
from agent_session.transcript.volume import Volume
from agent_session.workflows.scheduled import (
    HeartbeatWorkflow,
    ScheduledMessageWorkflow,
    UnpinnedHeartbeatWorkflow,
    UnpinnedScheduledMessageWorkflow,
)
from agent_session.workflows.session import PASSED_THROUGH, AgentSessionWorkflow, AgentTurnWorkflow

SECOND = timedelta(seconds=1)
#: How long a workflow task waits for the worker that has its session in memory; then any worker may take it, which
#: replays the session from its beginning. Too short, and a busy service replays instead of working: each task that
#: came too late makes others late. It costs that time when a worker is killed, but for a step that is tried again:
#: `SessionActivities` tells Temporal to forget the dead worker.
STICKY = timedelta(seconds=5)
#: At once. A worker that has just started replays each session from its beginning: of the SDK's 100 at once on a busy
#: machine many are not done within the 5 s of a task, are given out again, and the next worker drowns in turn.
WORKFLOW_TASKS = 16
#: Half of them for sessions that are in no worker's memory: with the SDK's one of five, those wait behind all others.
POLLS = 8
UNVERSIONED = (HeartbeatWorkflow, ScheduledMessageWorkflow)
UNPINNED = (UnpinnedHeartbeatWorkflow, UnpinnedScheduledMessageWorkflow)
NEEDS_ATTRIBUTE = "AgentSessionNeeds"

log = structlog.get_logger("agent_session.worker")


def identity(settings: Settings) -> str:
    """Who a worker is, in Temporal's UI and in logs."""
    if settings.worker.identity:
        return settings.worker.identity
    build = f"@{settings.worker.build_id}" if settings.worker.build_id else ""
    return f"{os.getpid()}@{socket.gethostname()}{build}"


async def require_search_attribute(client: Client) -> None:
    """An unregistered search attribute wedges the workflow at its first use, so we refuse to start.
    Errors: BadSettings with the command that registers it."""
    try:
        found = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
    except RPCError as error:
        log.warning("search attributes cannot be listed; taken as registered", error=str(error))
        return  # Temporal Cloud does not let everybody list them
    kind = found.custom_attributes.get(NEEDS_ATTRIBUTE)
    if kind != IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD:
        raise BadSettings(
            f"Temporal namespace {client.namespace!r} lacks the search attribute {NEEDS_ATTRIBUTE} (Keyword)\n"
            f"  temporal operator search-attribute create --namespace {client.namespace} "
            f"--name {NEEDS_ATTRIBUTE} --type Keyword"
        )


def session_worker(client: Client, services: Services) -> Worker:
    """The worker of the session task queue."""
    settings = services.settings
    versioning = _versioning(settings)
    services.schedules = partial(AgentSchedules, client, services)
    restrictions = SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH)
    return guarded_worker(
        client,
        SandboxedWorkflowRunner(restrictions=restrictions),
        task_queue=settings.task_queue,
        workflows=[AgentSessionWorkflow, AgentTurnWorkflow, *(UNPINNED if versioning else UNVERSIONED)],
        activities=[
            *SessionActivities(services, client).all(),
            HeartbeatActivity(services, client).beat,
            ScheduleActivity(services, client).say_scheduled,
        ],
        max_cached_workflows=settings.worker.cached_sessions,
        max_concurrent_workflow_tasks=WORKFLOW_TASKS,
        max_concurrent_workflow_task_polls=POLLS,
        nonsticky_to_sticky_poll_ratio=0.5,
        max_concurrent_activities=settings.worker.concurrent_activities,
        max_heartbeat_throttle_interval=SECOND,
        default_heartbeat_throttle_interval=SECOND,
        sticky_queue_schedule_to_start_timeout=STICKY,
        graceful_shutdown_timeout=timedelta(seconds=settings.worker.graceful_stop_s),
        interceptors=worker_interceptors(settings),
        **versioning,
    )


def _versioning(settings: Settings) -> dict[str, Any]:
    """Off unless a deployment and a build are named: sessions are then pinned, and move at roll-over. Errors:
    BadSettings when only one is: such a worker would take sessions of every build, and break them."""
    given = settings.worker
    if not given.deployment and not given.build_id:
        return {}
    if not (given.deployment and given.build_id):
        there, missing = ("deployment", "build_id") if given.deployment else ("build_id", "deployment")
        raise BadSettings(f"worker.{there} is set and worker.{missing} is not: set both, or neither (no versions)")
    return {
        "deployment_config": WorkerDeploymentConfig(
            version=WorkerDeploymentVersion(deployment_name=given.deployment, build_id=given.build_id),
            use_worker_versioning=True,
            default_versioning_behavior=VersioningBehavior.PINNED,
        )
    }


def channel_worker(client: Client, channel: DeliversReplies, settings: Settings) -> Worker:
    """Delivers the replies of one channel; never versioned, so that a pinned session's replies arrive."""
    return Worker(
        client,
        task_queue=f"{settings.task_queue}.channel.{channel.name}",
        activities=[DeliverActivity(channel, Volume(settings.data_dir), settings).deliver],
        max_concurrent_activities=20,
        interceptors=worker_interceptors(settings),
    )


async def run_workers(workers: Sequence[Worker], stop: asyncio.Event) -> None:
    """Run until told to stop; a worker that fails stops them all. Then each is drained."""
    running = [asyncio.create_task(worker.run()) for worker in workers]
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    await asyncio.gather(*(worker.shutdown() for worker in workers), return_exceptions=True)
    for outcome in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome

"""I8: a query that finds a session in no worker's cache leaves it able to go on.

Played as it happens after a restart: events come while nobody works on workflows, a question waits for whoever comes
first, and what it loads stands ahead of the workflow task that comes next (agent_session/query_guard.py).
"""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import PollWorkflowTaskQueueRequest, ResetStickyTaskQueueRequest
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import Client, WorkflowHistory
from temporalio.service import RPCError
from temporalio.worker import Replayer, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from agent_session.activities.session_activities import SessionActivities
from agent_session.client import ReplyPending
from agent_session.connection import connect
from agent_session.domain.ids import workflow_id
from agent_session.operations import load_services
from agent_session.query_guard import WORDS, GuardedInstance, GuardedRunner
from agent_session.workflows.session import PASSED_THROUGH, AgentSessionWorkflow, AgentTurnWorkflow
from tests.support import Service, fresh_key

SANDBOX = SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH))
ROOT = Path(__file__).parents[2]
WORKFLOWS = [AgentSessionWorkflow, AgentTurnWorkflow]


WORKER = """
import asyncio, os, sys
from datetime import timedelta
from temporalio.client import Client
from temporalio.worker import Worker
from agent_session.connection import DATA_CONVERTER
from tests.integration.test_queries_of_cold_sessions import SANDBOX, WORKFLOWS

async def main(address, queue):
    client = await Client.connect(address, data_converter=DATA_CONVERTER)
    waits = timedelta(seconds=3)
    await Worker(
        client, task_queue=queue, workflows=WORKFLOWS, workflow_runner=SANDBOX,
        sticky_queue_schedule_to_start_timeout=waits,
    ).run()

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def first_worker(service: Service) -> Iterator[subprocess.Popen[bytes]]:
    """A process that takes workflow tasks only; the session is sticky to it."""
    command = [sys.executable, "-c", WORKER, service.settings.temporal.address, service.settings.task_queue]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def activities(service: Service, client: Client) -> Worker:
    found = SessionActivities(load_services(service.settings), client).all()
    return Worker(client, task_queue=service.settings.task_queue, activities=found)


async def _ask(service: Service, key: str) -> None:
    with suppress(RPCError):
        await service.temporal.get_workflow_handle(workflow_id(key)).query("status")


async def _lose_its_worker_and_ask(service: Service, runner: WorkflowRunner, key: str) -> None:
    """The question waits at the dead worker for a while, then goes to the next one, while the workflow task for
    what has come meanwhile still waits there: the session is loaded for the question first."""
    client, queue = await connect(service.settings), service.settings.task_queue
    async with activities(service, client):
        with first_worker(service) as first:
            await service.client.send(key, "run until [ -e go ]; do sleep 0.02; done", id="tool")
            await service.until(key, lambda status: any(one.state == "running" for one in status.tools))
            async with Worker(client, task_queue=queue, workflows=WORKFLOWS, workflow_runner=runner):
                first.kill()
                asking = asyncio.create_task(_ask(service, key))
                await asyncio.sleep(0.1)
                (service.volume.path_of(key) / "workspace" / "go").touch()
                await asking
                await service.client.send(key, "stop that", id="stop", mode="interrupt")
                with suppress(ReplyPending):
                    await service.client.await_reply(key, "stop", timeout_s=40)


async def _ask_while_its_task_is_lost(service: Service, runner: WorkflowRunner, key: str) -> None:
    """The question waits at the dead worker; the task for the tool's result, given to any, is taken by one that never
    answers; so the next worker gets the question with a history that ends with the start of that task."""
    client, queue = await connect(service.settings), service.settings.task_queue
    run = WorkflowExecution(workflow_id=workflow_id(key))
    async with activities(service, client):
        with first_worker(service) as first:
            await service.client.send(key, "run until [ -e go ]; do sleep 0.02; done", id="tool")
            await service.until(key, lambda status: any(one.state == "running" for one in status.tools))
            first.kill()
        asking = asyncio.create_task(_ask(service, key))
        await asyncio.sleep(0.1)
        await client.workflow_service.reset_sticky_task_queue(
            ResetStickyTaskQueueRequest(namespace=client.namespace, execution=run)
        )
        (service.volume.path_of(key) / "workspace" / "go").touch()
        lost = PollWorkflowTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=queue), identity="lost"
        )
        assert (await client.workflow_service.poll_workflow_task_queue(lost)).started_event_id
        await service.client.send(key, "stop that", id="stop", mode="interrupt")
        async with Worker(client, task_queue=queue, workflows=WORKFLOWS, workflow_runner=runner):
            await asking
            with suppress(ReplyPending):
                await service.client.await_reply(key, "stop", timeout_s=25)


async def _replays(service: Service, key: str) -> bool:
    history = await service.temporal.get_workflow_handle(workflow_id(key)).fetch_history()
    results = await Replayer(workflows=WORKFLOWS, workflow_runner=SANDBOX).replay_workflow(
        WorkflowHistory(workflow_id(key), history.events), raise_on_replay_failure=False
    )
    return results.replay_failure is None


async def _goes_on(service: Service, key: str) -> None:
    failed = [event.workflow_task_failed_event_attributes.failure.message for event in await service.events(key)]
    assert await _replays(service, key)
    assert (await service.client.await_reply(key, "stop", timeout_s=5)).ok
    assert set(failed) <= {"", WORDS}


async def test_a_session_goes_on_after_a_question_that_met_it_cold(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    key = fresh_key()
    await _lose_its_worker_and_ask(service, GuardedRunner(SANDBOX), key)
    await _goes_on(service, key)


async def test_a_session_goes_on_after_a_question_that_met_it_cold_in_the_middle_of_a_lost_task(
    make_service: Callable[..., Any],
) -> None:
    service: Service = await make_service()
    key = fresh_key()
    await _ask_while_its_task_is_lost(service, GuardedRunner(SANDBOX), key)
    await _goes_on(service, key)


class Recorded:
    """Stands for the SDK's instance: notes what it was given, and wants so many activities of each task."""

    def __init__(self, wants: int = 0) -> None:
        self.taken: list[WorkflowActivation] = []
        self.instance_details = "its own"
        self._wants = wants

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        self.taken.append(act)
        completion = WorkflowActivationCompletion(run_id=act.run_id)
        for number in range(0 if act.is_replaying else self._wants):
            completion.successful.commands.add().schedule_activity.seq = number
        return completion


def activation(length: int, started_s: int, query: str = "", *, replayed: bool = False) -> WorkflowActivation:
    act = WorkflowActivation(run_id="run", history_length=length, is_replaying=replayed or bool(query))
    act.timestamp.seconds = started_s
    job = act.jobs.add()
    if query:
        job.query_workflow.query_id = query
    else:
        job.signal_workflow.signal_name = "receive"
    return act


def guarded(*acts: WorkflowActivation, wants: int = 0) -> tuple[list[bool], int]:
    """Whether each activation was refused, and how many the instance got."""
    instance = Recorded(wants)
    guard = GuardedInstance(instance)  # type: ignore[arg-type]
    assert guard.instance_details == "its own"
    refused = [guard.activate(act).failed.failure.message == WORDS for act in acts]
    return refused, len(instance.taken)


def test_an_instance_that_ran_ahead_for_a_query_fails_its_next_task() -> None:
    acts = [activation(4, 100), activation(9, 100), activation(9, 100, "legacy_query"), activation(12, 105)]
    assert guarded(*acts) == ([False, False, False, True], 3)


def test_a_spoilt_instance_still_takes_itself_apart() -> None:
    gone = WorkflowActivation(run_id="run")
    gone.jobs.add().remove_from_cache.SetInParent()
    acts = [activation(4, 100), activation(9, 100), activation(9, 100, "legacy_query"), activation(12, 105), gone]
    assert guarded(*acts) == ([False, False, False, True, False], 4)


def test_tasks_and_queries_in_their_order_are_left_alone() -> None:
    acts = [
        activation(4, 100), activation(10, 103), activation(10, 103, "legacy_query"), activation(15, 107),
        activation(15, 107, "q-of-a-task"), activation(22, 110), activation(22, 110, "legacy_query"),
        activation(30, 115),
    ]  # fmt: skip
    assert guarded(*acts) == ([False] * 8, 8)


def test_more_work_within_one_task_is_left_alone() -> None:
    acts = [activation(4, 100), activation(4, 100), activation(4, 100, "legacy_query"), activation(8, 101)]
    assert guarded(*acts) == ([False] * 4, 4)


@pytest.mark.parametrize(
    ("wants", "length", "lost"),
    [(1, 21, True), (1, 22, False), (2, 22, True), (0, 21, False), (1, 24, True), (2, 24, True)],
)
def test_a_task_before_a_query_was_lost_if_the_history_has_not_what_it_wanted(
    wants: int, length: int, lost: bool
) -> None:
    """From event 17 to the next task: completed, what was wanted, one signal, scheduled, started; three more where
    another task was lost."""
    warm = [activation(4, 100), activation(17, 103), activation(17, 103, "legacy_query"), activation(length, 110)]
    assert guarded(*warm, wants=wants)[0] == [False, False, False, lost]


def test_only_a_query_that_came_alone_puts_a_task_in_doubt() -> None:
    acts = [activation(4, 100, replayed=True), activation(17, 103), activation(21, 110)]
    assert guarded(*acts, wants=1)[0] == [False] * 3
    replayed = [activation(17, 103, replayed=True), activation(17, 103, "legacy_query"), activation(21, 110)]
    assert guarded(*replayed, wants=1)[0] == [False] * 3, "what is replayed was recorded"

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
from temporalio.client import Client
from temporalio.worker import Worker
from agent_session.connection import DATA_CONVERTER
from tests.integration.test_queries_of_cold_sessions import SANDBOX, WORKFLOWS

async def main(address, queue):
    client = await Client.connect(address, data_converter=DATA_CONVERTER)
    await Worker(client, task_queue=queue, workflows=WORKFLOWS, workflow_runner=SANDBOX).run()

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


async def _replays(service: Service, key: str) -> bool:
    history = await service.temporal.get_workflow_handle(workflow_id(key)).fetch_history()
    results = await Replayer(workflows=WORKFLOWS, workflow_runner=SANDBOX).replay_workflow(
        WorkflowHistory(workflow_id(key), history.events), raise_on_replay_failure=False
    )
    return results.replay_failure is None


async def test_a_session_goes_on_after_a_question_that_met_it_cold(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    key = fresh_key()
    await _lose_its_worker_and_ask(service, GuardedRunner(SANDBOX), key)
    failed = [event.workflow_task_failed_event_attributes.failure.message for event in await service.events(key)]
    assert await _replays(service, key)
    assert (await service.client.await_reply(key, "stop", timeout_s=5)).ok
    assert set(failed) <= {"", WORDS}


class Recorded:
    """Stands for the SDK's instance: notes what it was given."""

    def __init__(self) -> None:
        self.taken: list[WorkflowActivation] = []
        self.instance_details = "its own"

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        self.taken.append(act)
        return WorkflowActivationCompletion(run_id=act.run_id)


def activation(length: int, started_s: int, query: str = "") -> WorkflowActivation:
    act = WorkflowActivation(run_id="run", history_length=length)
    act.timestamp.seconds = started_s
    job = act.jobs.add()
    if query:
        job.query_workflow.query_id = query
    else:
        job.signal_workflow.signal_name = "receive"
    return act


def guarded(*acts: WorkflowActivation) -> tuple[list[bool], int]:
    """Whether each activation was refused, and how many the instance got."""
    instance = Recorded()
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

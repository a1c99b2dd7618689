"""I8: a query that finds a session in no worker's cache leaves it able to go on.

Played as it happens after a restart: events come while nobody works on workflows, a question waits for whoever comes
first, and what it loads stands ahead of the workflow task that comes next (agent_session/query_guard.py).
"""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
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
from temporalio.worker import Replayer, Worker, WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from agent_session.activities.session_activities import SessionActivities
from agent_session.client import ReplyPending
from agent_session.connection import connect
from agent_session.domain.ids import workflow_id
from agent_session.operations import load_services
from agent_session.query_guard import WORDS, GuardedInstance, Wanted, guarded_worker
from agent_session.workflows.session import PASSED_THROUGH, AgentSessionWorkflow, AgentTurnWorkflow
from tests.support import Service, fresh_key

SANDBOX = SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSED_THROUGH))
ROOT = Path(__file__).parents[2]
WORKFLOWS = [AgentSessionWorkflow, AgentTurnWorkflow]
TOOL = "run until [ -e go ]; do sleep 0.02; done"


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


def next_worker(service: Service, client: Client) -> Worker:
    return guarded_worker(client, SANDBOX, task_queue=service.settings.task_queue, workflows=WORKFLOWS)


def activities(service: Service, client: Client) -> Worker:
    found = SessionActivities(load_services(service.settings), client).all()
    return Worker(client, task_queue=service.settings.task_queue, activities=found)


async def let_the_tool_end(service: Service, key: str) -> None:
    (service.volume.path_of(key) / "workspace" / "go").touch()


async def _ask(service: Service, key: str) -> None:
    with suppress(RPCError):
        await service.temporal.get_workflow_handle(workflow_id(key)).query("status")


async def _lose_its_worker_and_ask(service: Service, key: str) -> None:
    """The question waits at the dead worker for a while, then goes to the next one, while the workflow task for
    what has come meanwhile still waits there: the session is loaded for the question first."""
    client = await connect(service.settings)
    async with activities(service, client):
        with first_worker(service) as first:
            await service.client.send(key, TOOL, id="tool")
            await service.until(key, lambda status: any(one.state == "running" for one in status.tools))
            async with next_worker(service, client):
                first.kill()
                asking = asyncio.create_task(_ask(service, key))
                await asyncio.sleep(0.1)
                await let_the_tool_end(service, key)
                await asking
                await service.client.send(key, "stop that", id="stop", mode="interrupt")
                with suppress(ReplyPending):
                    await service.client.await_reply(key, "stop", timeout_s=40)


async def _ask_while_its_task_is_lost(service: Service, key: str, *, comes: Callable[[], Awaitable[object]]) -> None:
    """The question waits at the dead worker; the task for what comes, given to any, is taken by one that never
    answers; so the next worker gets the question with a history that ends with the start of that task."""
    client, queue = await connect(service.settings), service.settings.task_queue
    run = WorkflowExecution(workflow_id=workflow_id(key))
    async with activities(service, client):
        with first_worker(service) as first:
            await service.client.send(key, TOOL, id="tool")
            await service.until(key, lambda status: any(one.state == "running" for one in status.tools))
            first.kill()
        asking = asyncio.create_task(_ask(service, key))
        await asyncio.sleep(0.1)
        await client.workflow_service.reset_sticky_task_queue(
            ResetStickyTaskQueueRequest(namespace=client.namespace, execution=run)
        )
        await comes()
        lost = PollWorkflowTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=queue), identity="lost"
        )
        assert (await client.workflow_service.poll_workflow_task_queue(lost)).started_event_id
        await service.client.send(key, "stop that", id="stop", mode="interrupt")
        async with next_worker(service, client):
            await asking
            await let_the_tool_end(service, key)
            with suppress(ReplyPending):
                await service.client.await_reply(key, "stop", timeout_s=25)


async def _replays(service: Service, key: str) -> bool:
    history = await service.temporal.get_workflow_handle(workflow_id(key)).fetch_history()
    results = await Replayer(workflows=WORKFLOWS, workflow_runner=SANDBOX).replay_workflow(
        WorkflowHistory(workflow_id(key), history.events), raise_on_replay_failure=False
    )
    return results.replay_failure is None


async def _goes_on(service: Service, key: str) -> list[str]:
    """What its failed workflow tasks said."""
    assert await _replays(service, key)
    assert (await service.client.await_reply(key, "stop", timeout_s=5)).ok
    failed = [event.workflow_task_failed_event_attributes.failure.message for event in await service.events(key)]
    return [words for words in failed if words]


async def test_a_session_goes_on_after_a_question_that_met_it_cold(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    key = fresh_key()
    await _lose_its_worker_and_ask(service, key)
    assert await _goes_on(service, key) == []


async def test_a_session_goes_on_after_a_question_that_met_it_cold_in_the_middle_of_a_lost_task(
    make_service: Callable[..., Any],
) -> None:
    service: Service = await make_service()
    key = fresh_key()
    await _ask_while_its_task_is_lost(service, key, comes=lambda: let_the_tool_end(service, key))
    assert set(await _goes_on(service, key)) <= {WORDS}


async def test_what_a_question_has_loaded_in_the_middle_of_a_lost_task_that_wanted_nothing_is_thrown_away(
    make_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No history tells such a task from one that was recorded."""
    service: Service = await make_service()
    key, loaded = fresh_key(), list[str]()
    create = SandboxedWorkflowRunner.create_instance

    def counted(runner: SandboxedWorkflowRunner, det: WorkflowInstanceDetails) -> WorkflowInstance:
        loaded.append(det.info.workflow_id)
        return create(runner, det)

    monkeypatch.setattr(SandboxedWorkflowRunner, "create_instance", counted)
    await _ask_while_its_task_is_lost(service, key, comes=lambda: service.client.send(key, "and then?", id="then"))
    assert loaded.count(workflow_id(key)) == 2, "for the question, and for the task that came next"
    assert await _goes_on(service, key) == []


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


def guarded(*acts: WorkflowActivation, wants: int = 0) -> tuple[str, int]:
    """What became of each activation (`.` taken, `x` refused, `!` taken, and the instance thrown away), and how many
    the instance got."""
    instance, thrown, found = Recorded(wants), list[str](), ""
    guard = GuardedInstance(instance, thrown.append)  # type: ignore[arg-type]
    assert guard.instance_details == "its own"
    for act in acts:
        before = len(thrown)
        refused = guard.activate(act).failed.failure.message == WORDS
        found += "x" if refused else "!" if len(thrown) > before else "."
    assert set(thrown) <= {"run"}
    return found, len(instance.taken)


def test_an_instance_that_ran_ahead_for_a_query_is_thrown_away_after_it() -> None:
    acts = [activation(4, 100), activation(9, 100), activation(9, 100, "legacy_query")]
    assert guarded(*acts, wants=1) == ("..!", 3)


def test_an_instance_takes_itself_apart() -> None:
    gone = WorkflowActivation(run_id="run")
    gone.jobs.add().remove_from_cache.SetInParent()
    acts = [activation(4, 100), activation(9, 100), activation(9, 100, "legacy_query"), gone]
    assert guarded(*acts) == ("..!.", 4)


def test_tasks_and_queries_in_their_order_are_left_alone() -> None:
    acts = [
        activation(4, 100, replayed=True), activation(10, 103),
        activation(15, 107), activation(15, 107, "legacy_query"), activation(15, 107, "q-of-a-task"),
        activation(19, 110), activation(19, 110, "legacy_query"),
        activation(30, 115),
    ]  # fmt: skip
    assert guarded(*acts) == ("." * 8, 8)


def test_more_work_within_one_task_is_left_alone() -> None:
    acts = [activation(4, 100), activation(4, 100), activation(4, 100, "legacy_query"), activation(9, 101)]
    assert guarded(*acts, wants=1) == ("....", 4)


@pytest.mark.parametrize(
    ("wants", "length", "found"),
    [
        (1, 21, "x"), (1, 22, "."), (1, 23, "x"), (1, 24, "x"), (1, 25, "."),
        (2, 22, "x"), (2, 23, "."), (2, 24, "x"), (2, 26, "."), (4, 22, "x"), (4, 25, "."),
    ],
)  # fmt: skip
def test_a_task_before_a_query_was_lost_if_the_history_has_not_what_it_wanted(
    wants: int, length: int, found: str
) -> None:
    """From event 17 to the next task: completed, what was wanted, one signal, scheduled, started; three more where
    another task was lost."""
    first = [activation(4, 100, replayed=True), activation(17, 103), activation(17, 103, "legacy_query")]
    assert guarded(*first, activation(length, 110), wants=wants)[0] == "..." + found


@pytest.mark.parametrize("wants", [0, 3, 6])
def test_what_a_lost_task_can_look_like_is_thrown_away_at_the_query(wants: int) -> None:
    first = [activation(4, 100, replayed=True), activation(17, 103), activation(17, 103, "legacy_query")]
    assert guarded(*first, wants=wants)[0] == "..!"


def test_a_worker_that_had_the_session_long_ago_is_brought_ahead_by_a_query_like_any_other() -> None:
    """It was elsewhere meanwhile: what was recorded there is replayed first, then comes what was lost there."""
    here = [activation(4, 100), activation(9, 101), activation(14, 102)]
    query = [activation(19, 103, replayed=True), activation(23, 104), activation(23, 104, "legacy_query")]
    assert guarded(*here, *query, activation(27, 110), wants=1)[0] == "......x"
    assert guarded(*here, *query, activation(28, 110), wants=1)[0] == "......."
    assert guarded(*here, *query)[0] == ".....!"


def test_an_instance_that_has_had_a_second_task_was_not_loaded_by_a_query() -> None:
    acts = [activation(17, 103), activation(22, 105), activation(22, 105, "legacy_query"), activation(26, 110)]
    assert guarded(*acts, wants=1)[0] == "...."


def test_only_a_query_that_came_alone_puts_a_task_in_doubt() -> None:
    acts = [activation(4, 100, replayed=True), activation(17, 103), activation(21, 110)]
    assert guarded(*acts, wants=1)[0] == "..."
    replayed = [activation(17, 103, replayed=True), activation(17, 103, "legacy_query"), activation(21, 110)]
    assert guarded(*replayed, wants=1)[0] == "...", "what is replayed was recorded"


def command(name: str, **fields: Any) -> WorkflowActivationCompletion:
    completion = WorkflowActivationCompletion(run_id="run")
    one = getattr(completion.successful.commands.add(), name)
    one.SetInParent()
    for field, value in fields.items():
        setattr(one, field, value)
    return completion


def wanted(*completions: WorkflowActivationCompletion) -> tuple[int, bool]:
    found = Wanted()
    for one in completions:
        found.add(one)
    return found.events, found.shows


def test_what_commands_make_in_the_history() -> None:
    activity, timer = command("schedule_activity", seq=1), command("start_timer", seq=1)
    accepted, rejected = command("update_response"), command("update_response")
    accepted.successful.commands[0].update_response.accepted.SetInParent()
    rejected.successful.commands[0].update_response.rejected.message = "no"
    assert wanted() == (0, False)
    assert wanted(activity, timer) == (2, True)
    assert wanted(activity, command("request_cancel_activity", seq=1)) == (0, False), "it was never sent"
    assert wanted(timer, command("cancel_timer", seq=2)) == (2, True)
    assert wanted(command("upsert_workflow_search_attributes"), accepted) == (2, True)
    assert wanted(command("set_patch_marker"), activity) == (3, False)
    assert wanted(activity, rejected) == (1, False), "accepted before or not, it cannot tell"
    assert wanted(activity, command("start_child_workflow_execution")) == (1, False)

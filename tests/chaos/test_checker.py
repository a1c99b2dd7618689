"""The checker can fail: each planted violation is found, in the evidence of a real run that shows none."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.history.v1 import History, HistoryEvent

from tests.chaos.checker import check
from tests.chaos.driver import Shape, run_plan
from tests.chaos.held_tasks import Task, spans_of, tasks_of
from tests.chaos.plan import make_plan
from tests.chaos.plant import FOUND_AS, PLANTS, plant
from tests.chaos.report import COUNTED, summary, table, words_of
from tests.chaos.seen import Message

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
async def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with each kind of fault."""
    folder = tmp_path_factory.mktemp("chaos") / "run"
    folder.mkdir()
    await asyncio.wait_for(run_plan(make_plan(7, 40, 4, 3, 15), Shape(workers=2), folder, print), 200)
    return folder


def test_a_short_run_shows_no_violation(evidence: Path) -> None:
    seen, verdict = check(evidence)
    known = summary(seen, verdict)
    print(table(known))
    assert not verdict.violations, words_of(verdict)
    assert known["messages"] == 44
    assert known["processes_killed"] >= 3


@pytest.mark.parametrize("what", sorted(PLANTS))
def test_a_planted_violation_is_found(evidence: Path, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "tampered"
    shutil.copytree(evidence, folder)
    plant(folder, what)
    _, verdict = check(folder)
    kind, words = FOUND_AS[what]
    assert [one for one in verdict.violations if one.kind == kind and words in one.words], words_of(verdict)


def test_each_kind_of_violation_is_planted() -> None:
    assert {kind for kind, _ in FOUND_AS.values()} == set(COUNTED)


def test_order_is_owed_to_what_was_taken_before_the_next_was_said() -> None:
    def said(tried_at: int, accepted_at: int) -> Message:
        return Message("m", "s00", "a", 0, "collect", "say", "", tried_at=tried_at, accepted_at=accepted_at)

    first, raced, later, never = said(0, 3), said(1, 2), said(4, 9), said(5, -1)
    assert first.owed_before(later)
    assert raced.owed_before(later)
    assert not first.owed_before(raced)
    assert not raced.owed_before(first)
    assert not never.owed_before(later)


def test_a_workers_fault_counts_for_a_session_whose_task_it_had() -> None:
    history = History(
        events=[
            HistoryEvent(event_id=1, event_time=at(10), workflow_task_scheduled_event_attributes={"attempt": 1}),
            HistoryEvent(
                event_id=2,
                event_time=at(10),
                workflow_task_started_event_attributes={"scheduled_event_id": 1, "identity": "worker-1.7"},
            ),
            HistoryEvent(
                event_id=3,
                event_time=at(15),
                workflow_task_timed_out_event_attributes={"scheduled_event_id": 1, "started_event_id": 2},
            ),
        ]
    )
    tasks = list(tasks_of(history, clock=0))
    assert [span for task in tasks for span in spans_of(task, [killed(1, 11)])] == [(11, 17)]
    assert not [span for task in tasks for span in spans_of(task, [killed(0, 11), killed(1, 9), killed(1, 16)])]


def test_attempts_that_no_history_records_excuse_as_many_faults_as_there_were_attempts() -> None:
    gap = Task(10, 60, losses=2)
    faults = [killed(0, 12), killed(1, 20), killed(2, 30), killed(0, 40)]
    assert spans_of(gap, faults) == [(12, 19), (20, 27)]
    assert spans_of(gap, [{"kind": "stop_worker", "worker": 0, "start": 50, "end": 58}]) == [(50, 62)]


def killed(worker: int, when: float) -> dict[str, Any]:
    return {"kind": "kill_worker", "worker": worker, "start": when, "end": when + 4}


def at(second: int) -> Timestamp:
    return Timestamp(seconds=second)


def test_a_plan_sends_what_it_says_also_out_of_order() -> None:
    plan = make_plan(3, 1000, 20, 10, 60)
    assert {one.again for one in plan.said} == {"", "now", "late", "old"}
    assert {one.pair for one in plan.said} == {"", "raced", "behind"}


def test_a_plan_is_a_function_of_its_seed() -> None:
    assert make_plan(3, 100, 5, 10, 60) == make_plan(3, 100, 5, 10, 60)
    assert make_plan(3, 100, 5, 10, 60) != make_plan(4, 100, 5, 10, 60)

"""The checker can fail: each planted violation is found, in the evidence of a real run that shows none."""

import asyncio
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.history.v1 import History, HistoryEvent

from tests.chaos.checker import check
from tests.chaos.driver import Shape, run_plan
from tests.chaos.faults import locked_by
from tests.chaos.held_tasks import STEP, WORKFLOW, Held, Task, may_hit, tasks_of, writing
from tests.chaos.plan import make_plan
from tests.chaos.plant import FOUND_AS, PLANTS, plant
from tests.chaos.report import COUNTED, summary, table, words_of
from tests.chaos.seen import Message
from tests.chaos.stalls import locked

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


def test_a_workers_fault_counts_where_it_had_the_sessions_task() -> None:
    began = of(scheduled_event_id=1, identity="worker-1.7")
    lost = of(scheduled_event_id=1, started_event_id=2)
    events = [
        HistoryEvent(event_id=1, event_time=at(10), workflow_task_scheduled_event_attributes=of(task_queue=QUEUE)),
        HistoryEvent(event_id=2, event_time=at(10), workflow_task_started_event_attributes=began),
        HistoryEvent(event_id=3, event_time=at(15), workflow_task_timed_out_event_attributes=lost),
    ]
    (task,) = tasks_of(History(events=events), clock=0)
    assert task == Task(10, 15, (1, 7))
    assert [*Held(task, (killed(11, 1, 7),)).spans(0, 99)] == [(11, 17)]
    assert not any(
        may_hit(one, task) for one in (killed(11, 0, 7), killed(11, 1, 6), killed(9, 1, 7), killed(16, 1, 7))
    )
    assert may_hit(killed(11, 1, 7), task)


def test_a_task_that_waits_for_a_worker_that_is_gone_is_held_up_by_its_death() -> None:
    waits = Task(12, 17, (1, 7), waited=True)
    assert may_hit(killed(5, 1, 7), waits)
    assert not may_hit(killed(1, 1, 7), waits), "Temporal has forgotten that worker"
    assert not may_hit(killed(5, 1, 6), waits), "it waits for the next life"
    assert [*Held(waits, (killed(5, 1, 7),)).spans(0, 99)] == [(12, 19)]


def test_losses_that_no_history_records_take_out_as_much_as_there_can_have_been() -> None:
    faults = (killed(12, 0, 1), killed(20, 1, 2), killed(30, 2, 3), killed(40, 0, 4))
    assert [*Held(Task(10, 60, losses=2), faults).spans(0, 99)] == [(12, 19), (20, 27)]
    assert [*Held(Task(10, 60, losses=2), faults).spans(28, 99)] == [(30, 37), (40, 47)], "of that silence"
    assert [*Held(Task(10, 60, losses=3), (killed(12, 0, 1), killed(13, 1, 2))).spans(0, 99)] == [(12, 19), (19, 20)]
    asleep = {"kind": "stop_worker", "worker": 0, "life": 1, "start": 50, "end": 58}
    assert [*Held(Task(10, 90, losses=3), (asleep,)).spans(0, 99)] == [(50, 65)], "it is still given tasks"
    assert [*Held(Task(10, 90, (0, 1), completed=True), (asleep,)).spans(0, 99)] == [(50, 57)]


def test_a_step_that_a_living_worker_refused_was_not_lost() -> None:
    def third(failure: str) -> list[Task]:
        events = [
            HistoryEvent(event_id=1, event_time=at(10), workflow_task_scheduled_event_attributes=of(task_queue=QUEUE)),
            HistoryEvent(event_id=2, event_time=at(10), activity_task_scheduled_event_attributes=of(task_queue=QUEUE)),
            HistoryEvent(
                event_id=3,
                event_time=at(40),
                activity_task_started_event_attributes=of(
                    scheduled_event_id=2, attempt=3, identity="worker-0.1", last_failure={failure: {}}
                ),
            ),
        ]
        return list(tasks_of(History(events=events), clock=0))

    assert third("timeout_failure_info") == [Task(10, 40, losses=2, kind=STEP)]
    assert third("application_failure_info") == [Task(10, 40, losses=1, kind=STEP)]


def test_a_delivery_is_held_up_by_the_loss_of_the_step_that_wrote_the_reply_and_by_no_other_step() -> None:
    wrote = Held(Task(10, 20, (1, 7), kind=STEP), (killed(15, 1, 7),))
    others = [Held(replace(wrote.task, kind=WORKFLOW), wrote.faults), Held(Task(15, 20, kind=STEP), wrote.faults)]
    assert writing([wrote, *others], when=14) == [wrote]
    assert writing([wrote], when=20) == []


def test_a_worker_that_is_stopped_under_a_transcripts_lock_holds_up_that_session_alone(tmp_path: Path) -> None:
    for session in ("s01", "s02"):
        (tmp_path / f"sessions/00/{session}-00").mkdir(parents=True)
        (tmp_path / f"sessions/00/{session}-00/history.jsonl").touch()
    talk = tmp_path / "sessions/00/s01-00/history.jsonl"
    writer = subprocess.Popen(["flock", "-F", talk, "sh", "-c", "echo locked; exec sleep 60"], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"locked\n"
        held = locked_by(writer.pid, tmp_path)
        assert held == ["s01"]
        assert locked_by(writer.pid + 1, tmp_path) == []
    finally:
        writer.kill()
    stopped = {"kind": "stop_worker", "start": 10, "end": 18, "locked": held}
    assert locked([stopped, {**stopped, "start": 30, "killed": 34}]) == {"s01": [(10, 23), (30, 39)]}
    assert locked([{"kind": "stop_worker", "start": 10, "end": 18}]) == {}


QUEUE = {"name": "agent-session"}


def killed(when: float, worker: int, life: int) -> dict[str, Any]:
    return {"kind": "kill_worker", "worker": worker, "life": life, "start": when, "end": when + 4}


def at(second: int) -> Timestamp:
    return Timestamp(seconds=second)


def of(**attributes: Any) -> Any:
    """A message of that field's type is made of a mapping."""
    return attributes


def test_a_plan_sends_what_it_says_also_out_of_order() -> None:
    plan = make_plan(3, 1000, 20, 10, 60)
    assert {one.again for one in plan.said} == {"", "now", "late", "old"}
    assert {one.pair for one in plan.said} == {"", "raced", "behind"}


def test_a_plan_is_a_function_of_its_seed() -> None:
    assert make_plan(3, 100, 5, 10, 60) == make_plan(3, 100, 5, 10, 60)
    assert make_plan(3, 100, 5, 10, 60) != make_plan(4, 100, 5, 10, 60)

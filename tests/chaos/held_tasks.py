"""What faults of workers held up of a session's tasks, as Temporal's histories tell. Must not judge.

A worker that is killed or stopped holds up the tasks that it has, or that wait for it alone, until they are given to
another. A history names the worker of each task that it records, but it does not record all: of a step only the last
attempt, of a workflow task that is lost time and again the first and the last. In such a gap each worker's fault
counts, for as many losses as there can have been.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.history.v1 import History

OVER_S = 7.0  #: to get over one loss: at most 5 s until it is noticed (4 of a step), and the next attempt
AGAIN_S = 2.0  #: the part of it that the next attempt takes
REMEMBERED_S = 10.0  #: so long Temporal still leaves tasks to a worker that is gone
WORKER = re.compile(r"worker-(\d+)\.(\d+)")
ELSEWHERE = ".channel.slack"  #: what is delivered by a process of its own, which no worker's fault holds up
WORKFLOW, STEP, DELIVERY = "workflow", "step", "delivery"
Life = tuple[int, int]  #: a worker, and which process it was
Fault = dict[str, Any]
Spans = list[tuple[float, float]]


@dataclass(frozen=True)
class Task:
    """A worker had it, or it waited for that worker, or nobody knows which: then `life` is None."""

    began: float
    ended: float
    life: Life | None = None
    waited: bool = False
    completed: bool = False  #: by that worker, whatever had come over it
    losses: float = 1  #: that there can have been
    kind: str = WORKFLOW


@dataclass(frozen=True)
class Held:
    """A task that faults may have held up."""

    task: Task
    faults: tuple[Fault, ...]  #: those that may have, by their start

    def spans(self, began: float, ended: float) -> Iterator[tuple[float, float]]:
        """How much of that time; no longer than so many losses take."""
        task, left, reached = self.task, self.task.losses * OVER_S, max(self.task.began, began)
        if task.began > ended or task.ended + AGAIN_S < began:
            return
        for fault in self.faults:
            hit = max(task.began, fault["start"])
            if task.completed:
                last = max(hit, fault["end"]) + AGAIN_S
            else:
                last = (max(hit, _given_until(task, fault)) if task.life is None else hit) + OVER_S
            start = max(reached, hit)
            end = min(last, task.ended + AGAIN_S, start + left, ended)
            if start < end:
                yield start, end
                left, reached = left - (end - start), end


def held_tasks(folder: Path, session: str, clock: float, faults: list[Fault]) -> list[Held]:
    """Of that session. `clock`: how much later a history's clock is than that of the evidence."""
    faults = sorted(faults, key=lambda one: one["start"])
    starts = [one["start"] for one in faults]
    longest = max((one["end"] - one["start"] for one in faults), default=0.0) + REMEMBERED_S
    found: list[Held] = []
    for path in (folder / "histories").glob(f"{session}-*.bin"):
        for task in tasks_of(History.FromString(path.read_bytes()), clock):
            near = faults[bisect_left(starts, task.began - longest) : bisect_right(starts, task.ended)]
            hits = tuple(fault for fault in near if may_hit(fault, task))
            if hits and task.losses > 0:
                found.append(Held(task, hits))
    return found


def writing(held: list[Held], when: float) -> list[Held]:
    """Of these, the steps that were not done when the transcript showed what they wrote."""
    return [one for one in held if one.task.kind == STEP and one.task.began <= when < one.task.ended]


def may_hit(fault: Fault, task: Task) -> bool:
    if task.life not in (None, (fault["worker"], fault["life"])):
        return False
    return fault["start"] <= task.ended and _given_until(task, fault) >= task.began


def _given_until(task: Task, fault: Fault) -> float:
    """So long the worker, asleep or gone, may still have been given tasks."""
    gone = (
        fault["end"]
        if fault["kind"] == "stop_worker" and "killed" not in fault
        else fault.get("killed", fault["start"])
    )
    return gone + (REMEMBERED_S if task.waited else 0.0)


def tasks_of(history: History, clock: float) -> Iterator[Task]:
    """In any order."""
    reading = _Reading()
    for event in history.events:
        name = event.WhichOneof("attributes")
        if name is not None and name.startswith(("workflow_task_", "activity_task_")):
            now = event.event_time.ToNanoseconds() / 1e9 - clock
            part, _, what = name.removesuffix("_event_attributes").partition("_task_")
            read = getattr(reading, f"{part}_{what}", None) or getattr(reading, f"{part}_ended")
            yield from read(event.event_id, now, getattr(event, name), what)


class _Reading:
    """Of one run's history: a method for each kind of event that begins or ends a task."""

    def __init__(self) -> None:
        self._scheduled: dict[int, tuple[float, Life | None]] = {}
        self._started: dict[int, tuple[float, Life | None]] = {}
        self._kinds: dict[int, str] = {}  #: of steps, by the event that scheduled them; none of other processes
        self._to_end: dict[int, float] = {}  #: when a step was asked to
        self._lost: float | None = None  #: since when a workflow task is given out again
        self._unrecorded: float = inf  #: how often that can have been lost, where a message reset the count

    def workflow_scheduled(self, event: int, now: float, said: Any, _: str) -> Iterator[Task]:
        sticky = said.task_queue.kind == TaskQueueKind.TASK_QUEUE_KIND_STICKY
        self._scheduled[event] = now, _life(said.task_queue.name) if sticky else None
        if self._lost is not None and now - self._lost > AGAIN_S:
            unrecorded = said.attempt - 2 if said.attempt > 1 else self._unrecorded
            yield Task(self._lost, now, losses=unrecorded)
        self._lost = None

    def workflow_started(self, event: int, now: float, said: Any, _: str) -> Iterator[Task]:
        since, life = self._scheduled[said.scheduled_event_id]
        self._started[event] = now, _life(said.identity)
        if life is not None:
            yield Task(since, now, life, waited=True)

    def workflow_ended(self, _: int, now: float, said: Any, what: str) -> Iterator[Task]:
        waited = not said.started_event_id
        since, life = self._scheduled[said.scheduled_event_id] if waited else self._started[said.started_event_id]
        if life is not None:
            yield Task(since, now, life, waited=waited, completed=what == "completed")
        if what == "failed" or (what == "timed_out" and not waited):
            self._lost, self._unrecorded = now, 1 if what == "failed" else inf  # a failure is the session's own

    def activity_scheduled(self, event: int, now: float, said: Any, _: str) -> Iterator[Task]:
        self._scheduled[event] = now, None
        if not said.task_queue.name.endswith(ELSEWHERE):
            self._kinds[event] = DELIVERY if said.activity_type.name == "deliver" else STEP
        yield from ()

    def activity_started(self, event: int, now: float, said: Any, _: str) -> Iterator[Task]:
        self._started[event] = now, _life(said.identity)
        refused = said.last_failure.WhichOneof("failure_info") not in (None, "timeout_failure_info")
        if said.attempt > 1:
            since, _ = self._scheduled[said.scheduled_event_id]
            yield from self._of(said.scheduled_event_id, Task(since, now, losses=said.attempt - 1 - refused))

    def activity_cancel_requested(self, _: int, now: float, said: Any, __: str) -> Iterator[Task]:
        self._to_end[said.scheduled_event_id] = now
        yield from ()

    def activity_ended(self, _: int, now: float, said: Any, what: str) -> Iterator[Task]:
        if said.started_event_id:
            since, life = self._started[said.started_event_id]
            if life is not None:
                yield from self._of(said.scheduled_event_id, Task(since, now, life, completed=what == "completed"))
        else:  # cancelled between two attempts
            since, _ = self._scheduled[said.scheduled_event_id]
            if now - since > OVER_S:
                yield from self._of(said.scheduled_event_id, Task(since, now, losses=inf))

    def _of(self, scheduled: int, task: Task) -> Iterator[Task]:
        """A delivery holds up the answers only once it is asked to end: a roll-over waits for that."""
        kind = self._kinds.get(scheduled)
        if kind is not None:
            yield replace(task, kind=kind)
        since = self._to_end.get(scheduled, inf)
        if kind == DELIVERY and since < task.ended:
            yield replace(task, began=max(task.began, since), kind=STEP)


def _life(name: str) -> Life | None:
    found = WORKER.match(name)
    return (int(found[1]), int(found[2])) if found else None

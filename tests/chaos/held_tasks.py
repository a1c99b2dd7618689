"""When faults of workers held up a session's tasks, as Temporal's histories tell. Must not judge.

A worker that is killed or stopped holds up the tasks that it has, or that wait for it alone, until they are given to
another. A history names the worker of each task that it records, but it does not record all: of a step only the last
attempt, of a workflow task that is lost time and again only the first. In such a gap each worker's fault counts, for
as many attempts as there were.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import TaskQueueKind
from temporalio.api.history.v1 import History

OVER_S = 7.0  #: to get over one loss: at most 5 s until it is noticed (4 of a step), and the next attempt
AGAIN_S = 2.0  #: of that, the next attempt
REMEMBERED_S = 10.0  #: so long Temporal still leaves tasks to a worker that is gone
WORKER = re.compile(r"worker-(\d+)\.")
Spans = list[tuple[float, float]]


@dataclass(frozen=True)
class Task:
    """A worker had it, or it waited for that worker, or nobody knows which: then `worker` is None."""

    began: float
    ended: float
    worker: int | None = None
    waited: bool = False
    losses: float = 1  #: that it can have met


def held_up(folder: Path, session: str, clock: float, faults: list[dict[str, Any]]) -> Spans:
    """Of that session. `clock`: how much later a history's clock is than that of the evidence."""
    found: Spans = []
    for path in (folder / "histories").glob(f"{session}-*.bin"):
        for task in tasks_of(History.FromString(path.read_bytes()), clock):
            found += spans_of(task, faults)
    return found


def spans_of(task: Task, faults: list[dict[str, Any]]) -> Spans:
    """What these faults of workers can have held it up; no longer than so many losses take."""
    found: Spans = []
    left, reached = task.losses * OVER_S, task.began
    for fault in sorted(faults, key=lambda one: one["start"]):
        asleep = fault["kind"] == "stop_worker"  # it is still given tasks
        until = fault["end"] if asleep else fault["start"] + (REMEMBERED_S if task.waited else 0.0)
        if task.worker not in (None, fault["worker"]) or fault["start"] > task.ended or until < task.began:
            continue
        start = max(reached, fault["start"])
        last = until if asleep and task.worker is None else start
        end = min(task.ended + AGAIN_S, last + OVER_S, start + left)
        if start < end:
            found.append((start, end))
            left, reached = left - (end - start), end
    return found


def tasks_of(history: History, clock: float) -> Iterator[Task]:
    """In any order."""
    scheduled: dict[int, tuple[float, int | None]] = {}
    started: dict[int, tuple[float, int | None]] = {}
    lost: float | None = None  #: since when a workflow task is given out again, unrecorded
    for event in history.events:
        now = event.event_time.ToNanoseconds() / 1e9 - clock
        kind = (event.WhichOneof("attributes") or "").removesuffix("_event_attributes")
        known = getattr(event, event.WhichOneof("attributes") or "")
        if kind == "workflow_task_scheduled":
            sticky = known.task_queue.kind == TaskQueueKind.TASK_QUEUE_KIND_STICKY
            scheduled[event.event_id] = now, _number(known.task_queue.name) if sticky else None
            if lost is not None:
                yield Task(lost, now, losses=known.attempt - 1 or inf)
                lost = None
        elif kind == "activity_task_scheduled":
            scheduled[event.event_id] = now, None
        elif kind in ("workflow_task_started", "activity_task_started"):
            since, worker = scheduled[known.scheduled_event_id]
            started[event.event_id] = now, _number(known.identity)
            if worker is not None:
                yield Task(since, now, worker, waited=True)
            if kind == "activity_task_started" and known.attempt > 1:
                yield Task(since, now, losses=known.attempt - 1)
        elif kind.startswith(("workflow_task_", "activity_task_")) and kind != "activity_task_cancel_requested":
            waited = not known.started_event_id
            since, worker = scheduled[known.scheduled_event_id] if waited else started[known.started_event_id]
            if worker is not None:
                yield Task(since, now, worker, waited=waited)
            if kind in ("workflow_task_timed_out", "workflow_task_failed"):
                lost = now


def _number(name: str) -> int | None:
    found = WORKER.match(name)
    return int(found[1]) if found else None

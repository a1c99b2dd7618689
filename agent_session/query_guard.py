"""Keeps a query from spoiling a session: a workflow runner around the SDK's.

A query that reaches a worker without the session in its cache brings the history with it. What it has beyond the last
workflow task that was completed belongs to the next one, and yet the SDK's core lets the workflow run on it: events
that came since (an activity's result, a signal), or a task that was started and is lost. The workflow then stands, in
the cache, ahead of that task. When it comes with more events, what the workflow does is recorded in an order that no
replay takes, and the session can never go on (TMPRL1100; found by chaos runs). Other SDKs throw away what a query has
built.

So does this, where it may be ahead. Events without the start of a task are seen at once. A lost task looks, until the
next one comes, like one that this worker has just completed: the history that comes with the next tells whether what
it wanted was recorded, and if not, that next task is refused, once, to be given out again and replayed as it is. Only
what the history cannot tell is thrown away at the query; to throw away all would have every session that somebody
watches replayed at each task. Left, as to look for them too took half of the pace under faults: a lost task of
another worker's that a query brings to one that was up to date, and one that had timed out when the query came.
"""

from collections.abc import Callable
from typing import Any, cast

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import Client
from temporalio.worker import Worker, WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

DIRECT_QUERY = "legacy_query"  #: the core's id of a query that came alone, not with a workflow task
WORDS = "the session is loaded anew: a query had let it run ahead of its workflow task"
BETWEEN = 3  #: events from one task to the next: it is completed, the next is scheduled and started
LOST = 3  #: events of a task that was given out in vain: scheduled, started, timed out or failed

ThrowsAway = Callable[[str], None]  #: has the core drop a run from its cache, once its present activation is answered


def guarded_worker(client: Client, runner: WorkflowRunner, **options: Any) -> Worker:
    """A worker whose workflows run by `runner`, guarded. `options` are those of `Worker`."""
    guard = GuardedRunner(runner)
    worker = Worker(client, workflow_runner=guard, **options)
    guard.throw_away = worker._bridge_worker.request_workflow_eviction  # pyright: ignore[reportPrivateUsage]
    return worker


class GuardedRunner(WorkflowRunner):
    """Runs workflows by another runner, and guards each instance."""

    throw_away: ThrowsAway

    def __init__(self, runner: WorkflowRunner) -> None:
        self._runner = runner

    def prepare_workflow(self, defn: Any) -> None:
        self._runner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return cast(WorkflowInstance, GuardedInstance(self._runner.create_instance(det), self.throw_away))

    def set_worker_level_failure_exception_types(self, types: Any) -> None:
        self._runner.set_worker_level_failure_exception_types(types)


class GuardedInstance:
    """One cached workflow. All but `activate` is the instance's own."""

    def __init__(self, instance: WorkflowInstance, throw_away: ThrowsAway) -> None:
        self._instance = instance
        self._throw_away = throw_away
        self._length, self._time = 0, (0, 0)
        self._beyond = False  #: it has taken in events without the start of a task
        self._tasks = 0  #: that were no replay, since the last that was: a query may have brought the first
        self._wanted = Wanted()  #: by the last one
        self._doubted = False  #: that one may have been lost, and the next one's history will tell

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instance, name)

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        queries = [job.query_workflow.query_id for job in act.jobs if job.HasField("query_workflow")]
        if len(queries) == len(act.jobs):
            if DIRECT_QUERY in queries:
                self._doubt(act.run_id)
            return self._instance.activate(act)
        if any(job.HasField("remove_from_cache") for job in act.jobs):
            return self._instance.activate(act)  # it takes itself apart
        if self._doubted and self._was_lost(act):
            return _failed(act.run_id)
        self._note(act)
        completion = self._instance.activate(act)
        self._wanted.add(completion)
        return completion

    def _doubt(self, run_id: str) -> None:
        """A query came alone. It may be what loaded this, or brought it up to date, if one task came since."""
        if self._beyond or (self._tasks == 1 and not self._wanted.shows):
            self._throw_away(run_id)
        elif self._tasks == 1:
            self._doubted = True

    def _note(self, act: WorkflowActivation) -> None:
        time = (act.timestamp.seconds, act.timestamp.nanos)
        if act.history_length != self._length:  # a new task, not more of the same
            self._beyond = act.history_length > self._length > 0 and time == self._time
            self._wanted, self._doubted = Wanted(), False
            self._tasks = 0 if act.is_replaying else self._tasks + 1
        self._length, self._time = act.history_length, time

    def _was_lost(self, act: WorkflowActivation) -> bool:
        """Whether the last task's completion is not among the events since: it, what it wanted, what came, and the
        schedule and start of this task. Each further task that was given out in vain is three more."""
        if act.history_length <= self._length:
            return False
        recorded = act.history_length - self._length - BETWEEN - _events_of_jobs(act)
        wanted = self._wanted.events
        return recorded < wanted or recorded % LOST != wanted % LOST


class Wanted:
    """What a task's commands make in the history. What is cancelled before it is sent makes nothing."""

    def __init__(self) -> None:
        self._made: set[tuple[str, int]] = set()
        self._undone: set[tuple[str, int]] = set()
        self._others = 0
        self._counted = True

    def add(self, completion: WorkflowActivationCompletion) -> None:
        for command in completion.successful.commands:
            if command.HasField("schedule_activity"):
                self._made.add(("activity", command.schedule_activity.seq))
            elif command.HasField("start_timer"):
                self._made.add(("timer", command.start_timer.seq))
            elif command.HasField("request_cancel_activity"):
                self._undone.add(("activity", command.request_cancel_activity.seq))
            elif command.HasField("cancel_timer"):
                self._undone.add(("timer", command.cancel_timer.seq))
            elif command.HasField("upsert_workflow_search_attributes"):
                self._others += 1
            elif command.HasField("set_patch_marker"):
                self._others += 2  # the marker, and the search attribute that lists it
            elif command.HasField("update_response") and not command.update_response.HasField("rejected"):
                self._others += 1  # accepted, or completed
            else:
                self._counted = False

    @property
    def events(self) -> int:
        return len(self._made ^ self._undone) + self._others

    @property
    def shows(self) -> bool:
        """Whether the history that follows tells this from the events of tasks that were given out in vain."""
        return self._counted and self.events % LOST != 0


def _events_of_jobs(act: WorkflowActivation) -> int:
    """From how many events these come; the end of an activity comes with its start."""
    found = 0
    for job in act.jobs:
        if job.HasField("resolve_activity"):
            found += 2
        elif any(job.HasField(kind) for kind in ("signal_workflow", "fire_timer", "cancel_workflow")):
            found += 1
    return found


def _failed(run_id: str) -> WorkflowActivationCompletion:
    completion = WorkflowActivationCompletion(run_id=run_id)
    completion.failed.failure.message = WORDS
    return completion

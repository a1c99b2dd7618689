"""Keeps a query from spoiling a session: a workflow runner around the SDK's.

A query that reaches a worker without the session in its cache brings the history with it. Events that came since
the last workflow task was completed (an activity's result, a signal) come along, and the SDK's core lets the workflow
run on them, although they belong to the next task: the workflow then stands, in the cache, ahead of that task. When it
comes with more events, what the workflow does is recorded in an order that no replay takes, and the session can never
go on (TMPRL1100; found by chaos runs). Other SDKs throw away what a query has built.

So does this: an instance that ran ahead for a query fails its next task, once. The server gives the task out again
(the first time at once, later after its time-out), and whoever takes it replays the history as it is. It is noticed in
two ways: events were taken in without a start of a workflow task; or a task was started that was then lost, so that
what the workflow wanted is not in the history that comes with the next. Not noticed is a lost task that wanted
nothing: to fail each that looks so halves the pace of a service under faults.
"""

from typing import Any, cast

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

DIRECT_QUERY = "legacy_query"  #: the core's id of a query that came alone, not with a workflow task
WORDS = "the session is loaded anew: a query had let it run ahead of its workflow task"
BETWEEN = 3  #: events from one task to the next: it is completed, the next is scheduled and started
LOST = 3  #: events of a task that was given out in vain: scheduled, started, timed out or failed


class GuardedRunner(WorkflowRunner):
    """Runs workflows by another runner, and guards each instance."""

    def __init__(self, runner: WorkflowRunner) -> None:
        self._runner = runner

    def prepare_workflow(self, defn: Any) -> None:
        self._runner.prepare_workflow(defn)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return cast(WorkflowInstance, GuardedInstance(self._runner.create_instance(det)))

    def set_worker_level_failure_exception_types(self, types: Any) -> None:
        self._runner.set_worker_level_failure_exception_types(types)


class GuardedInstance:
    """One cached workflow. All but `activate` is the instance's own."""

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._length, self._time = 0, (0, 0)
        self._beyond = self._spoilt = False
        self._live = False  #: the last task was no replay
        self._wanted = Wanted()  #: by that task
        self._doubted = False  #: a query came alone: that task may have been lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instance, name)

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        queries = [job.query_workflow.query_id for job in act.jobs if job.HasField("query_workflow")]
        if len(queries) == len(act.jobs):
            alone = DIRECT_QUERY in queries
            self._spoilt = self._spoilt or (self._beyond and alone)
            self._doubted = self._doubted or (self._live and alone)
            return self._instance.activate(act)
        if any(job.HasField("remove_from_cache") for job in act.jobs):
            return self._instance.activate(act)  # it takes itself apart
        if self._spoilt or (self._doubted and self._was_lost(act)):
            self._spoilt = True
            return _failed(act.run_id)
        self._note(act)
        completion = self._instance.activate(act)
        self._wanted.add(completion)
        return completion

    def _note(self, act: WorkflowActivation) -> None:
        time = (act.timestamp.seconds, act.timestamp.nanos)
        if act.history_length != self._length:  # a new task, not more of the same
            self._beyond = act.history_length > self._length > 0 and time == self._time
            self._wanted, self._doubted, self._live = Wanted(), False, not act.is_replaying
        self._length, self._time = act.history_length, time

    def _was_lost(self, act: WorkflowActivation) -> bool:
        """Whether the last task's completion is not among the events since: it, what it wanted, what came, and the
        schedule and start of this task; or as many more tasks, each given out in vain, as would look like that."""
        if act.history_length <= self._length:
            return False
        recorded = act.history_length - self._length - BETWEEN - _events_of_jobs(act)
        wanted = self._wanted.events
        return recorded < wanted or (0 < wanted != recorded and recorded % LOST == 0)


class Wanted:
    """What a task's commands make in the history. What is cancelled before it is sent makes nothing."""

    def __init__(self) -> None:
        self._made: set[tuple[str, int]] = set()
        self._undone: set[tuple[str, int]] = set()
        self._others = 0

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
            elif command.HasField("upsert_workflow_search_attributes") or command.HasField("set_patch_marker"):
                self._others += 1

    @property
    def events(self) -> int:
        return len(self._made ^ self._undone) + self._others


def _events_of_jobs(act: WorkflowActivation) -> int:
    """From how many events these come; the end of an activity comes with its start."""
    found = 0
    for job in act.jobs:
        if job.HasField("resolve_activity"):
            found += 2
        elif job.HasField("signal_workflow") or job.HasField("fire_timer"):
            found += 1
    return found


def _failed(run_id: str) -> WorkflowActivationCompletion:
    completion = WorkflowActivationCompletion(run_id=run_id)
    completion.failed.failure.message = WORDS
    return completion

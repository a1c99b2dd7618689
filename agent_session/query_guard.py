"""Keeps a query from spoiling a session: a workflow runner around the SDK's.

A query that reaches a worker without the session in its cache brings the history with it. Events that came since
the last workflow task (an activity's result, a signal) come along, and the SDK's core lets the workflow run on them,
although they belong to the next task. The workflow then stands, in the cache, half a task ahead; when that task
comes with more events, what it does is recorded in an order that no replay takes, and the session can never go on
(TMPRL1100; found by chaos runs). Other SDKs throw away what a query has built.

So does this: an instance that ran ahead for a query fails its next task, once. The server gives the task out again
at once, and whoever takes it replays the history as it is.
"""

from typing import Any, cast

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

DIRECT_QUERY = "legacy_query"  #: the core's id of a query that came alone, not with a workflow task
WORDS = "the session is loaded anew: a query had let it run ahead of its workflow task"


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
    """One cached workflow. All but `activate` is the instance's own.

    Ahead of its task: events were taken in (`history_length` grew) without a start of a workflow task (`timestamp`
    is that of the last one), and then a query came alone.
    """

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._length, self._time = 0, (0, 0)
        self._beyond = self._spoilt = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instance, name)

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        queries = [job.query_workflow.query_id for job in act.jobs if job.HasField("query_workflow")]
        if len(queries) == len(act.jobs):
            self._spoilt = self._spoilt or (self._beyond and DIRECT_QUERY in queries)
            return self._instance.activate(act)
        if any(job.HasField("remove_from_cache") for job in act.jobs):
            return self._instance.activate(act)  # it takes itself apart
        if self._spoilt:
            return _failed(act.run_id)
        time = (act.timestamp.seconds, act.timestamp.nanos)
        self._beyond = act.history_length > self._length > 0 and time == self._time
        self._length, self._time = act.history_length, time
        return self._instance.activate(act)


def _failed(run_id: str) -> WorkflowActivationCompletion:
    completion = WorkflowActivationCompletion(run_id=run_id)
    completion.failed.failure.message = WORDS
    return completion

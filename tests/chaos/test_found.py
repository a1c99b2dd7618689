"""What chaos runs have found, in its shortest form. One that is mended loses its mark and moves to the ordinary tests.

`found/update_after_lost_task.json`, of seed 10: a worker dies between a step's completion and the workflow task
that takes it in; before the next worker takes that task, a message and two waiters (updates) arrive. That worker
schedules the next activity before it accepts the updates; every later replay accepts them first. From then on
each workflow task fails, and the session is dead.
"""

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from agent_session.workflows.session import AgentSessionWorkflow, AgentTurnWorkflow

FOUND = Path(__file__).parent / "found"


@pytest.mark.xfail(strict=True, reason="the SDK applies updates in another order on replay (TMPRL1100)")
async def test_a_session_replays_after_a_task_was_lost_while_waiters_came() -> None:
    restrictions = SandboxRestrictions.default.with_passthrough_modules("agent_session.domain")
    replayer = Replayer(
        workflows=[AgentSessionWorkflow, AgentTurnWorkflow],
        workflow_runner=SandboxedWorkflowRunner(restrictions=restrictions),
    )
    text = (FOUND / "update_after_lost_task.json").read_text()
    await replayer.replay_workflow(WorkflowHistory.from_json("session/s35", text))

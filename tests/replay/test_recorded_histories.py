"""I8: today's workflow code replays the histories of every released shape."""

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from agent_session.workflows.scheduled import HeartbeatWorkflow, ScheduledMessageWorkflow
from agent_session.workflows.session import AgentSessionWorkflow, AgentTurnWorkflow

HISTORIES = sorted(Path(__file__).parent.glob("histories/*/*.json"))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
async def test_a_recorded_history_replays(path: Path) -> None:
    restrictions = SandboxRestrictions.default.with_passthrough_modules("agent_session.domain")
    replayer = Replayer(
        workflows=[AgentSessionWorkflow, AgentTurnWorkflow, HeartbeatWorkflow, ScheduledMessageWorkflow],
        workflow_runner=SandboxedWorkflowRunner(restrictions=restrictions),
    )
    history = WorkflowHistory.from_json(f"session/{path.stem.rpartition('-')[0]}", path.read_text())
    await replayer.replay_workflow(history)


def test_every_shape_was_recorded() -> None:
    recorded = {path.stem.rpartition("-")[0] for path in HISTORIES}
    assert recorded >= {"HeartbeatWorkflow", "ScheduledMessageWorkflow"}
    assert recorded >= {"plain", "tools", "stops", "approval", "asides", "flood", "refused", "failed", "once", "beats"}

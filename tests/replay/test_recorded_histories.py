"""I8: today's workflow code replays the histories of every released shape."""

from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from agent_session.workflows.asides import ALIASES_PATCH
from agent_session.workflows.asides import PATCH as ASIDES_PATCH
from agent_session.workflows.beats import BEATS_PATCH
from agent_session.workflows.scheduled import HeartbeatWorkflow, ScheduledMessageWorkflow
from agent_session.workflows.session import AgentSessionWorkflow, AgentTurnWorkflow
from scripts.record_histories import KEYS, SCENARIOS

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


def test_every_scenario_was_recorded_in_the_newest_shape() -> None:
    newest = max(path.parent.name for path in HISTORIES)
    recorded = {path.stem.rpartition("-")[0] for path in HISTORIES if path.parent.name == newest}
    assert recorded == {key for scenario in SCENARIOS for key in KEYS.get(scenario, (scenario.__name__,))}


@pytest.mark.parametrize("patch", [BEATS_PATCH, ALIASES_PATCH, ASIDES_PATCH])
def test_every_patch_stands_in_a_recorded_history(patch: str) -> None:
    """Else nothing would show that both of its sides replay."""
    assert any(patch in marked(path) for path in HISTORIES)
    assert any(patch not in marked(path) for path in HISTORIES)


def marked(path: Path) -> str:
    """The details of its patch markers, decoded."""
    events = WorkflowHistory.from_json("any", path.read_text()).events
    markers = [
        event.marker_recorded_event_attributes for event in events if event.HasField("marker_recorded_event_attributes")
    ]
    return " ".join(
        payload.data.decode() for one in markers for details in one.details.values() for payload in details.payloads
    )

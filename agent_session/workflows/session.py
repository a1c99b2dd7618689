"""`AgentSessionWorkflow`: one conversation, for as long as it lives; `AgentTurnWorkflow`: one message a run.

Must stay small: the workflow sandbox loads this module anew for every session that a worker keeps, and only this
one. What the sandbox would refuse in the others, tests do (`tests/unit/test_determinism.py`, `tests/replay/`).
"""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from agent_session.domain.wire import Wire, to_wire
    from agent_session.workflows.loop import SessionLoop

#: what the sandbox does not load anew: it holds no state of a session
PASSED_THROUGH = (
    "agent_session.domain",
    *(f"agent_session.workflows.{part}" for part in (
        "core", "beats", "handlers", "approvals", "turn", "background", "asides", "loop",
    )),
)  # fmt: skip


@workflow.defn(name="AgentSessionWorkflow")
class AgentSessionWorkflow(SessionLoop):
    """One conversation, workflow id `session/<key>`."""

    @workflow.init
    def __init__(self, carried: Wire) -> None:
        super().__init__(carried)

    @workflow.run
    async def run(self, carried: Wire) -> None:
        await self.live()


@workflow.defn(name="AgentTurnWorkflow")
class AgentTurnWorkflow(SessionLoop):
    """The turn-based form: ends when its inbox is empty. Same id, so no two writers for a key."""

    ends_when_idle = True

    @workflow.init
    def __init__(self, carried: Wire) -> None:
        super().__init__(carried)

    @workflow.run
    async def run(self, carried: Wire) -> Wire | None:
        await self.live()
        newest = self.replies.newest
        return to_wire(newest) if newest else None

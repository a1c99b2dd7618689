"""What `SessionClient` takes and returns, and the tree of what it raises."""

from dataclasses import dataclass

from temporalio.client import WorkflowExecution, WorkflowExecutionStatus

from agent_session.domain.ids import key_of_workflow
from agent_session.domain.replies import ANSWERED


class SessionError(Exception):
    """Base of what this client raises."""


class NoSuchSession(SessionError):
    """No session of that key has ever been."""


class NoSuchMessage(SessionError):
    """The session has never seen that message id."""


class SessionBusy(SessionError):
    """The session takes no more signals right now; nothing was accepted. Send again, with the same id."""


class SessionIsLive(SessionError):
    """`run` was asked for a key whose session is live: `send` to it instead."""


class ReplyPending(SessionError):
    """The reply has not come in time; nothing is lost. Ask again with the same id."""


@dataclass(frozen=True)
class Receipt:
    """A message that Temporal has accepted: it will be answered, whatever dies meanwhile."""

    session: str
    id: str
    scoped: str


@dataclass(frozen=True)
class Reply:
    """How a message was answered. `outcome`: answered, interrupted, cancelled or failed."""

    outcome: str
    text: str
    turn: str
    n: int = 0
    error_id: str = ""
    message_id: str = ""

    @property
    def ok(self) -> bool:
        return self.outcome == ANSWERED


@dataclass(frozen=True)
class SessionRow:
    """One line of `sessions`."""

    key: str
    kind: str
    running: bool
    started_s: int
    needs: str = ""


def row_of(found: WorkflowExecution) -> SessionRow:
    """A session as Temporal's visibility lists it."""
    needs = found.search_attributes.get("AgentSessionNeeds") or [""]
    running = found.status == WorkflowExecutionStatus.RUNNING
    return SessionRow(
        key_of_workflow(found.id), found.workflow_type, running, int(found.start_time.timestamp()), str(needs[0])
    )

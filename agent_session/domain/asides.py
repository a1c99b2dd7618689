"""Asides: messages that are answered at once, beside the turns. Slash commands, and whatever people say
while a tool call waits for one of them. References and small facts only (I2).
"""

from dataclasses import dataclass, field

from agent_session.domain.messages import InboundMessage
from agent_session.domain.status import Status
from agent_session.domain.turns import Decision

ASIDES = 6  #: that wait for their answer
STOP_TURN, NEW_TALK, CHOOSE_MODEL, DECIDE, PASS_ON = "stop", "new", "model", "decide", "pass on"


@dataclass(frozen=True, kw_only=True)
class AsideInput:
    """What `answer_aside` gets: the message, and what the session is doing."""

    key: str
    message: InboundMessage
    status: Status = field(default_factory=lambda: Status(key=""))
    allowed: tuple[str, ...] = ()  #: patterns, as words
    choice: str = ""  #: the model that was chosen for this session
    waiting: tuple[str, ...] = ()  #: previews of messages in the queue
    foreign: bool = False  #: the turn that waits is of another place or principal
    now_s: int = 0


@dataclass(frozen=True, kw_only=True)
class AsideAnswer:
    """What it returns: the words, and what the workflow does."""

    refused: bool = False  #: the signature does not fit
    text: str = ""
    text_ref: str = ""  #: the words in the spool: those that show a call, and those for a place that is pushed to
    effect: str = ""
    value: str = ""
    call: str = ""
    decision: Decision | None = None

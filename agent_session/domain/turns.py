"""A turn in progress, as the workflow holds it: references and small facts, never text of the
conversation (I2). It is carried over roll-over at any step boundary (I7).
"""

from dataclasses import dataclass

from agent_session.domain.messages import InboundMessage
from agent_session.domain.outbox import Delivery
from agent_session.domain.patterns import AllowedPattern

MODEL, TOOLS, CLOSING = "model", "tools", "closing"  #: where in a step a turn stands
RUN, ASK, REFUSE = "run", "ask", "refuse"  #: policy's verdict on a tool call
REASON_BYTES = 200  #: of a denial, for the model, as encoded
NOBODY_ANSWERED = "nobody answered in time"  #: the only reason that counts without a signature


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A person's answer on one tool call; the MAC binds it to what exactly would run (I10)."""

    decision: str  #: allow or deny
    principal: str = ""
    grants: tuple[str, ...] = ()
    mac: str = ""
    reason: str = ""
    pattern: str = ""  #: also allow calls like this one, for the rest of the session


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One request of the model, without its arguments: those are in the transcript."""

    index: int
    tool: str
    verdict: str = RUN
    digest: str = ""  #: of arguments, directory and sandbox: what an approval is bound to
    queue: str = ""  #: the tool's own task queue; empty: the session's
    timeout_s: int = 600
    parallel: bool = True
    decision: Decision | None = None
    done: bool = False  #: its result is recorded; another call of the step may still be asked about
    started_s: int = 0  #: when it began to run, seconds since the epoch, for status


@dataclass(frozen=True, kw_only=True)
class OpenTurn:
    """The running turn. `messages` are those that the next model call has still to take in; the ids of
    all it answers are in `scoped`."""

    id: str
    messages: tuple[InboundMessage, ...] = ()
    scoped: tuple[str, ...] = ()
    place: InboundMessage | None = None  #: its first message without text: whose turn, and where replies go
    n: int = 0  #: number for display, from the transcript
    step: int = 1
    phase: str = MODEL
    calls: tuple[ToolCall, ...] = ()
    stop: str = ""  #: cancelled or interrupted: close at the next chance
    failure: str = ""  #: class word of what ended it
    error_id: str = ""
    since_s: int = 0
    asked_s: int = 0  #: when approval was asked for
    fresh: bool = False  #: the talk begins anew with it
    choice: str = ""  #: the model that a person chose; empty: the configured one
    chosen: bool = False  #: `choice` is new with it
    told: bool = False  #: waiters and channel have the outcome already; only the transcript waits

    @property
    def is_background(self) -> bool:
        """Nobody waits for it: a heartbeat, a schedule."""
        return self.place is not None and self.place.is_background


@dataclass(frozen=True, kw_only=True)
class StepAnswer:
    """What `llm_chat` returns: small (I2)."""

    seq: int = 0  #: the transcript's last line
    n: int = 0
    finish: str = "stop"  #: stop, tools, refused, answered (before), ended (with a failure, recorded)
    text: str = ""  #: the reply, when it is at most 8 KiB
    text_ref: bool = False  #: the reply is longer: read it from the transcript
    calls: tuple[ToolCall, ...] = ()
    outcome: str = ""  #: with finish=ended: the recorded outcome
    failure: str = ""
    error_id: str = ""
    refused: tuple[str, ...] = ()  #: scoped ids whose signature does not fit
    earlier: tuple[str, ...] = ()  #: `<scoped id> <outcome> <turn>` of messages answered before
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost_microusd: int = 0
    model: str = ""
    shell: str = ""  #: how commands are confined, when it differs from what was known
    card_ref: str = ""  #: the request for a decision, in the spool, for a place that is pushed to
    recalled: tuple[AllowedPattern, ...] = ()  #: patterns that the transcript has from before this workflow
    choice: str = ""  #: likewise the model that was chosen
    options: dict[str, int] | None = None  #: time-outs and limits, when they differ from those in force


@dataclass(frozen=True, kw_only=True)
class ToolSummary:
    """What `execute_tool` returns."""

    seq: int = 0
    outcome: str = "ok"  #: ok, error, interrupted, cancelled, refused, denied; asks: not run, see `digest`
    size: int = 0
    duration_ms: int = 0
    digest: str = ""  #: with outcome asks: what would run here differs from what was allowed
    card_ref: str = ""  #: with outcome asks: the request, in the spool
    allowed: AllowedPattern | None = None  #: the person's decision allows more than this call
    deliveries: tuple[Delivery, ...] = ()  #: messages that the tool sends


@dataclass(frozen=True, kw_only=True)
class ClosedTurn:
    """What `record_turn` returns: what the transcript says, which wins over the workflow's memory."""

    seq: int = 0
    n: int = 0
    outcome: str = ""
    text: str = ""
    text_ref: bool = False
    failure: str = ""
    error_id: str = ""


@dataclass(frozen=True, kw_only=True)
class StepInput:
    """What `llm_chat` gets: the words it has still to take in, and where the transcript must be."""

    key: str
    turn: str
    step: int = 1
    messages: tuple[InboundMessage, ...] = ()
    after_seq: int = 0
    model: str = ""  #: the one last used, so that only a change is returned
    options: dict[str, int] | None = None  #: those in force, for the same reason
    shell: str = ""  #: likewise
    allowed: tuple[AllowedPattern, ...] = ()  #: for this session
    choice: str = ""  #: the model that a person chose for this session; empty: the configured one
    fresh: bool = False  #: the talk begins anew with this turn
    chosen: bool = False  #: `choice` is new with this turn
    pushed: bool = False  #: the turn's place is pushed to: a request for a decision goes there
    recall: bool = False  #: the first turn of a workflow: the transcript may know patterns and a model


@dataclass(frozen=True, kw_only=True)
class ToolInput:
    """What `execute_tool` gets: which call; its arguments are in the transcript."""

    key: str
    turn: str
    step: int
    index: int
    after_seq: int = 0
    decision: Decision | None = None
    digest: str = ""  #: what a person was asked about last
    pushed: bool = False  #: the turn's place is pushed to: a request for a decision goes there


@dataclass(frozen=True, kw_only=True)
class CloseInput:
    """What `record_turn` gets. `messages` are words that may not stand in the transcript yet."""

    key: str
    turn: str
    outcome: str
    failure: str = ""
    error_id: str = ""
    messages: tuple[InboundMessage, ...] = ()
    after_seq: int = 0
    fresh: bool = False
    choice: str = ""
    chosen: bool = False

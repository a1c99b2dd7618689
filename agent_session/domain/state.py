"""`SessionState`: everything that a session carries from run to run, in one frozen value (I7).

At most 512 KiB as encoded, by the limits of its parts (a property test holds it). It lives in Temporal,
so fields are added with a default that means "as before" (I8).
"""

from dataclasses import dataclass, field

from agent_session.domain.beats import Beats
from agent_session.domain.inbox import CarriedInbox
from agent_session.domain.messages import InboundMessage
from agent_session.domain.outbox import Delivery
from agent_session.domain.patterns import AllowedPattern
from agent_session.domain.replies import CarriedReplies
from agent_session.domain.turns import OpenTurn


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Counts over the session's whole life in Temporal."""

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0  #: of the input tokens, those that the provider had in its cache
    cost_microusd: int = 0
    roll_overs: int = 0
    deliveries_dropped: int = 0


@dataclass(frozen=True, kw_only=True)
class SessionState:
    key: str
    inbox: CarriedInbox = field(default_factory=CarriedInbox)
    turn: OpenTurn | None = None
    replies: CarriedReplies = field(default_factory=CarriedReplies)
    outbox: tuple[Delivery, ...] = ()
    after_seq: int = 0  #: the transcript's last line that we know of
    tally: Tally = field(default_factory=Tally)
    model: str = ""
    last_failure: str = ""
    last_error_id: str = ""
    last_error_s: int = 0
    closing: bool = False
    needs: str = ""  #: value of the search attribute: approval, failed or empty
    asides: tuple[InboundMessage, ...] = ()  #: to be answered beside the turns
    allowed: tuple[AllowedPattern, ...] = ()
    choice: str = ""  #: the model that a person chose; empty: the configured one
    fresh: bool = False  #: the next turn begins anew
    chosen: bool = False  #: `choice` is not in the transcript yet
    shell: str = ""  #: how commands are confined, for status
    options: dict[str, int] = field(default_factory=lambda: dict[str, int]())  #: see `domain.options`
    beats: Beats = field(default_factory=Beats)  #: heartbeats that ran, were skipped, and what they used

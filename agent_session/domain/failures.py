"""How a failure travels: a class word, a short error id, and nothing of what was said (I2, I3, I6).

The whole story is in the worker's log under the error id; people get one sentence with advice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from agent_session.domain.wire import from_wire

ADVICE: dict[str, str] = {
    "authentication": "The model provider refused the API key. Check it, then send the message again.",
    "rate_limit": "The model provider is limiting requests and did not recover in time. Try again in a minute.",
    "quota": "The model provider says the account's quota or credit is used up. Top it up, then send again.",
    "overloaded": "The model provider is overloaded and did not recover in time. Try again in a minute.",
    "provider_error": "The model provider failed again and again. Try again later, or choose another model.",
    "connection": "The model provider could not be reached. Check the network and model.base_url.",
    "time_out": "It took longer than it may. Try a smaller step, or raise the time-out in the settings.",
    "bad_request": "The model provider refused the request. The log has its reason.",
    "context_overflow": "The conversation no longer fits the model. Lower model.context_tokens.",
    "content_filter": "The model provider's content filter stopped the answer. Say it in other words.",
    "bad_answer": "The model's answer could not be read, several times in a row. Try again, or another model.",
    "model_setup": "The model cannot be used as configured. The log says what to set.",
    "volume": "The data volume stayed away or refused writing. Check it with your operator, then send again.",
    "worker_lost": "The worker was lost again and again while doing this. It was given up.",
    "unreadable": "I received something that I could not read, so nothing was done. Please send it again.",
    "not_signed": "The message was not signed by one of this service's channels, so nothing was done.",
    "queue_full": "This session has too many messages waiting, so this one was not taken. Send it again later.",
    "step_limit": "I stopped after the allowed number of steps. Say “go on” to continue.",
    "internal": "Something in the service failed; the session goes on. The log has the details.",
}
#: a failed turn's class words; anything else reads as "internal"


@dataclass(frozen=True, kw_only=True)
class FailureEnvelope:
    """A failure as it travels through Temporal: at most 2 KiB, by its types."""

    kind: str = "internal"
    error_id: str = ""
    retry_after_s: float = 0.0  #: what the provider asked for, 0 when it said nothing

    @property
    def apology(self) -> str:
        """One sentence for the person, with the id that `agent-session logs --id` finds."""
        sentence = ADVICE.get(self.kind, ADVICE["internal"])
        return f"Sorry, this turn failed. {sentence} (error {self.error_id})"


def envelope_from(details: object) -> FailureEnvelope:
    """Read an envelope from a failure's details; anything else is an internal failure."""
    first = next(iter(cast(Sequence[object], details)), None) if isinstance(details, list | tuple) else details
    envelope = from_wire(FailureEnvelope, cast(object, first))
    kind = envelope.kind if envelope.kind in ADVICE else "internal"
    return FailureEnvelope(kind=kind, error_id=envelope.error_id[:32], retry_after_s=envelope.retry_after_s)

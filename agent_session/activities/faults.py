"""How an activity's exception becomes a Temporal failure: a class word, an error id, and when to retry.

Nothing of the exception's text travels (I2, I3): the log has it under the error id. Lost workers are
retried after 0.2 s by the retry policy; faults ask for their own delay here.
"""

import math
import random
from datetime import UTC, datetime, timedelta

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from agent_session.activities.attempt import Faults, StaleAttempt, Unproven
from agent_session.domain.failures import FailureEnvelope
from agent_session.domain.ids import error_id
from agent_session.domain.options import Options
from agent_session.domain.wire import to_wire
from agent_session.models.base import ModelFault
from agent_session.telemetry import steps
from agent_session.telemetry.metrics import attempts_failed
from agent_session.transcript.log import VolumeFault
from agent_session.transcript.recorder import TurnEnded, UnknownTurn
from agent_session.transcript.spool import BadReference
from agent_session.transcript.volume import VolumeUnavailable

MODEL_DELAY_S = 30.0
RETRY_AFTER_S = 300.0  #: a provider that asks for more is asked again after this
VOLUME_DELAY_S = 5.0
INTERNAL_ATTEMPTS = 4
LOST_WORKERS = 10

log = structlog.get_logger("agent_session.activities")


class WorkerLost(Exception):
    """The work was given up after it lost too many workers."""


class ForeignSession(Exception):
    """A workflow asked for work on a session that is not its own."""


def failure_of(error: Exception, faults: Faults, options: Options) -> ApplicationError:
    """The failure to raise. Also counts the fault for the next attempt, in the heartbeat's details."""
    info = activity.info()
    kind, delay_s, final = _judge(error, faults, options)
    faults.raised += 1
    faults.model += isinstance(error, ModelFault)
    activity.heartbeat(faults.wire())
    attempts_failed.labels(info.activity_type, kind).inc()
    if not final:
        steps.to_be_retried(info.activity_type, steps.name_of(info), info.scheduled_time.timestamp(), delay_s)
    identifier = error_id(info.workflow_run_id, info.activity_id, info.attempt)
    envelope = FailureEnvelope(kind=kind, error_id=identifier, retry_after_s=delay_s)
    log.log(
        40 if final else 30,
        "attempt failed" if final else "attempt failed, will be retried",
        error_id=identifier,
        kind=kind,
        attempt=info.attempt,
        delay_s=round(delay_s, 1),
        error=f"{type(error).__name__}: {error}"[:2000],
        exc_info=error if kind == "internal" else None,
    )
    return ApplicationError(
        kind,
        to_wire(envelope),
        type=kind,
        non_retryable=final,
        next_retry_delay=None if final else timedelta(seconds=delay_s),
    )


def _judge(error: Exception, faults: Faults, options: Options) -> tuple[str, float, bool]:
    """Class word, delay before the next attempt, and whether this was the last."""
    if isinstance(error, ModelFault):
        tried = faults.model + 1
        asked = min(error.retry_after_s, RETRY_AFTER_S) * random.uniform(1.0, 1.1)  # not all sessions at once
        delay = asked or min(MODEL_DELAY_S, 2.0 ** (tried - 1)) * random.uniform(1.0, 1.25)
        return error.kind, delay, not error.transient or tried >= options.model_attempts
    if isinstance(error, BadReference):
        return "unreadable", 0.0, True
    if isinstance(error, WorkerLost):
        return "worker_lost", 0.0, True
    if isinstance(error, TurnEnded | UnknownTurn | StaleAttempt | ForeignSession):
        return "internal", 0.0, True
    if isinstance(error, VolumeUnavailable | VolumeFault | Unproven | OSError):
        info = activity.info()
        waited = (datetime.now(UTC) - info.scheduled_time).total_seconds()
        return "volume", volume_delay_s(faults.raised), waited > options.volume_patience_s
    return "internal", 1.0, faults.raised + 1 >= INTERNAL_ATTEMPTS


def volume_delay_s(tries: int) -> float:
    """Until the next try, after so many that found the volume away."""
    return min(VOLUME_DELAY_S, 0.5 * 2.0 ** min(tries, 5))


RETRIES = {
    "rate_limit": "rate limited",
    "overloaded": "the provider is overloaded",
    "provider_error": "the provider failed",
    "connection": "the provider could not be reached",
    "time_out": "no answer in time",
    "bad_answer": "the answer could not be read",
    "volume": "the data volume is away",
}  #: class words as watchers read them; anything else is a failure of ours


def retry_text(kind: str, delay_s: float, coming: int) -> str:
    """What a watcher reads while a step waits for its next try, which is the `coming` one."""
    return f"{RETRIES.get(kind, 'something failed')}: retrying in {math.ceil(delay_s)} s ({ordinal(coming)} try)"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def lost_workers(faults: Faults) -> int:
    """How many attempts of this work ended without a word."""
    return activity.info().attempt - 1 - faults.raised


def give_up_on_lost_workers(faults: Faults) -> bool:
    """Whether this work has taken its worker with it too often (a poisoned message must not wedge the
    queue, I6)."""
    return lost_workers(faults) >= LOST_WORKERS

"""How long the oldest step on this worker has been under way, with all its attempts: what a stuck session looks like.

A step that failed and is to be retried counts on until its retry is due and a minute over; the retry may go to
another worker, which counts it then.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager

from temporalio.activity import Info

from agent_session.telemetry import metrics

GRACE_S = 60.0
STEPS = ("llm_chat", "execute_tool", "record_turn", "answer_aside")

_since: dict[tuple[str, ...], tuple[str, float, float]] = {}  #: step -> activity, first scheduled, forgotten at


def name_of(info: Info) -> tuple[str, ...]:
    """The same for every attempt at a step."""
    return info.workflow_run_id or "", info.activity_id


@contextmanager
def under_way(activity: str, step: tuple[str, ...], scheduled_s: float) -> Generator[None]:
    """Around one attempt at a step; `scheduled_s`: when the first was scheduled, since the epoch."""
    _since[step] = activity, scheduled_s, float("inf")
    try:
        yield
    finally:
        _since.pop(step, None)


def to_be_retried(activity: str, step: tuple[str, ...], scheduled_s: float, delay_s: float) -> None:
    _since[step] = activity, scheduled_s, time.time() + delay_s + GRACE_S


def oldest(activity: str) -> float:
    """Seconds; 0 when none is under way."""
    now = time.time()
    for step in [step for step, (_, _, until) in list(_since.items()) if until < now]:
        _since.pop(step, None)
    return max((now - since for kind, since, _ in list(_since.values()) if kind == activity), default=0.0)


def watch() -> None:
    """Show them from now on, in every look at the metrics."""
    for activity in STEPS:
        metrics.oldest_step.labels(activity).set_function(lambda activity=activity: oldest(activity))

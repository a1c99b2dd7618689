"""Time-outs, retries and limits as the workflow uses them. Only values that differ from the defaults
travel; a worker whose settings differ returns them with its next answer, so settings take effect
without a restart of the session and replay stays exact (I8).
"""

from dataclasses import dataclass, fields

from agent_session.domain.limits import TURNS_PER_RUN


@dataclass(frozen=True, kw_only=True)
class Options:
    """Seconds unless a name says otherwise."""

    model_timeout_s: int = 600  #: one model call, from start to end
    model_attempts: int = 10  #: tries at one model call when the provider is at fault
    tool_attempts: int = 100  #: tries at one tool call (lost workers, volume faults); a tool's error is a result
    record_timeout_s: int = 60
    deliver_timeout_s: int = 15  #: a roll-over waits for a started delivery at most this long
    heartbeat_timeout_s: int = 4
    volume_patience_s: int = 600  #: how long a model or tool step waits for a volume that is away
    max_steps: int = 40
    turns_per_run: int = TURNS_PER_RUN
    approval_timeout_s: int = 86_400
    idle_days: int = 30
    heartbeat_daily_tokens: int = 200_000  #: of background turns in one UTC day; 0: no limit
    heartbeat_swallow: int = 1  #: 1: a beat that says HEARTBEAT_OK is not told to anybody


DEFAULTS = Options()


def changed(options: Options) -> dict[str, int]:
    """The values that differ from the defaults."""
    given = {field.name: getattr(options, field.name) for field in fields(Options)}
    return {name: value for name, value in given.items() if value != getattr(DEFAULTS, name)}


def options_from(values: dict[str, int]) -> Options:
    """Defaults with `values` over them; unknown names, of a newer worker, are ignored."""
    known = {field.name for field in fields(Options)}
    return Options(**{name: value for name, value in values.items() if name in known})

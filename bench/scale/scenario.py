"""A day to be simulated: who comes when, what a turn takes, what the fleet is like. Values only."""

from dataclasses import dataclass, field

from bench.scale.draws import Lognormal, Quantiles
from bench.scale.scaler import Rule

HOUR_S, DAY_S = 3_600.0, 86_400.0
#: people's activity by the local hour, 1 at the busiest: a working day with a lunch break and an evening
HOURS = (
    0.08, 0.05, 0.03, 0.03, 0.04, 0.07, 0.15, 0.35, 0.65, 0.90, 1.00, 0.98,
    0.80, 0.85, 0.97, 0.95, 0.85, 0.70, 0.55, 0.50, 0.48, 0.40, 0.28, 0.16,
)  # fmt: skip
#: where people are: hours from UTC, and their share
ZONES = ((-8, 0.15), (-5, 0.25), (1, 0.40), (8, 0.20))


@dataclass(frozen=True, kw_only=True)
class People:
    """Conversations begin by chance, more at busy hours; in one, the next message follows the last reply."""

    conversations_a_day: float = 2.0  #: of one session
    messages: float = 4.0  #: mean of a conversation
    gap: Lognormal = field(default=Lognormal(45.0, 1.0))  #: from a reply to the next message
    impatient: float = 0.05  #: share of messages that another follows before the reply
    impatient_s: float = 3.0
    hours: tuple[float, ...] = HOURS
    zones: tuple[tuple[int, float], ...] = ZONES


@dataclass(frozen=True, kw_only=True)
class Beats:
    """Heartbeats: all on the same minute, but for the jitter. A busy session skips its beat."""

    share: float = 0.1  #: of the sessions have one
    every_s: float = 1_800.0
    jitter_s: float = 300.0


@dataclass(frozen=True, kw_only=True)
class Turns:
    """What a turn does: model steps with tool calls between them. One model step alone is a plain turn."""

    model: Lognormal = field(default=Lognormal(4.0, 0.8))
    tool: Lognormal = field(default=Lognormal(0.5, 1.5))
    more: float = 0.5  #: chance that a model step asks for tools: a mean of one round of them a turn
    calls: tuple[int, ...] = (1, 2)  #: side by side in one round, each as likely


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What the machinery adds, measured (`inputs.json`)."""

    around: Quantiles  #: of a stage, outside its slot: signal, workflow tasks, dispatch
    held: Quantiles  #: of a stage, inside its slot, beside the model's or the tool's own time
    cpu_s: float  #: of the worker, for a stage
    cold_s: float  #: a session that is not cached is replayed first: later by
    cold_cpu_s: float
    move_cpu_s: float  #: of the new worker, for a session that rolls over to it
    recovery_s: float = 3.8  #: from SIGKILL to the step's next attempt
    #: until a task of a killed worker's session goes to another: 5 s at most in the ten seconds after, then nothing
    sticky_s: float = 0.5
    stopped_s: float = 0.2  #: until a step that a stopping worker gave back is offered again


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Workers, one CPU each."""

    slots: int = 40
    cached: int = 1_000  #: sessions
    start_s: float = 20.0  #: from the wish to a worker that polls, the image being there
    grace_s: float = 90.0  #: a worker that is told to stop finishes its steps for so long
    crashes_a_day: float = 0.5  #: of one worker
    rule: Rule = field(default=Rule())


@dataclass(frozen=True, kw_only=True)
class Deploy:
    """A second build is started beside the first, becomes current, and takes the sessions over."""

    at_s: float
    moves_per_s: float = 50.0  #: how fast idle sessions are told to roll over


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A whole day, or `length_s` of it from midnight UTC."""

    sessions: int
    costs: Costs
    seed: int = 1
    length_s: float = DAY_S
    people: People = People()
    beats: Beats = Beats()
    turns: Turns = Turns()
    fleet: Fleet = Fleet()
    deploy: Deploy | None = None
    sample_s: float = 60.0
    keep_slots: bool = field(default=False)  #: keep who held which slot from when to when

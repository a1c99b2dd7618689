"""From figures to sizes: what one turn costs, what one of each thing carries, and what so many sessions need.

Pure functions of `Inputs`. No figure of its own: what is not measured is assumed in inputs.json, with its source.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bench.scale.figures import Inputs
from bench.scale.prices import GB, actions_price, storage_price

DAY_S = 86_400.0
MONTH_DAYS = 31.0
KINDS = ("plain", "three_tools_in_one_round", "three_rounds_of_one_tool")
#: of the calls on the volume, those that change something or take a lock
CHANGES = ("lock", "write", "sync", "name", "truncate")
READS = ("open", "read", "list")
LOOKS = ("folder", "stat")  #: a client of a network file system answers most of them from its cache


@dataclass(frozen=True)
class Turn:
    """What one turn costs."""

    events: float
    history_bytes: float
    actions: float  #: billed by Temporal Cloud, heartbeats among them
    writes: float  #: of the Temporal server to its database
    worker_cpu_s: float
    server_cpu_s: float
    slot_s: float  #: how long activity slots are held, all steps together
    changes: float  #: calls on the volume
    reads: float
    looks: float  #: at folders and names
    syncs: float
    volume_bytes: float
    redis_cpu_s: float
    redis_commands: float


@dataclass(frozen=True)
class Load:
    """How much comes."""

    sessions: float
    turns_a_day: float  #: people's
    beats_a_day: float
    peak: float  #: people's turns a second in the busiest quarter of an hour, and the mean of beats

    @property
    def all_a_day(self) -> float:
        return self.turns_a_day + self.beats_a_day


def by_parts(figures: Inputs, what: str) -> tuple[float, float, float]:
    """A plain turn, one more model step, one more tool call: three kinds of turn were measured, which gives
    three unknowns. Noise may not make a part negative."""
    plain, side_by_side, one_by_one = (figures(f"{kind}.{what}") for kind in KINDS)
    step = max(0.0, (one_by_one - side_by_side) / 2)
    return plain, step, max(0.0, (side_by_side - plain - step) / 3)


def turn_of(figures: Inputs, steps: float, tools: float, *, watched: bool = True) -> Turn:
    """One with so many model steps and tool calls. `watched`: by a client that waits for the reply and streams it."""

    def whole(what: str) -> float:
        plain, step, tool = by_parts(figures, what)
        return plain + (steps - 1) * step + tools * tool

    def volume(names: tuple[str, ...]) -> float:
        return sum(whole(f"volume_{name}") for name in names)

    waits_s = steps * figures("model_step_s") + tools * figures("tool_s")
    beats = waits_s * figures("heartbeats_per_s")
    asked = figures("waiting.queries") if watched else 0.0
    words = figures("streamed_tokens") / figures("redis.streamed_tokens") if watched else 0.0
    return Turn(
        events=whole("events"),
        history_bytes=whole("bytes"),
        actions=whole("actions") + beats + asked + 1 / figures("turns_a_run"),
        writes=whole("writes") + beats * figures("heartbeat.writes"),
        worker_cpu_s=whole("worker_cpu_s"),
        server_cpu_s=whole("server_cpu_s"),
        slot_s=waits_s + (steps + tools) * figures("held_s"),
        changes=volume(CHANGES),
        reads=volume(READS),
        looks=volume(LOOKS),
        syncs=volume(("sync",)),
        volume_bytes=whole("volume_bytes") + (figures("text_bytes") if watched else figures("beat_text_bytes")),
        redis_cpu_s=words * figures("redis.1_watchers.cpu_s"),
        redis_commands=words * figures("redis.1_watchers.publishes"),
    )


def mean_turn(figures: Inputs) -> Turn:
    """The one that the load is made of."""
    return turn_of(figures, figures("model_steps"), figures("tool_calls"))


def beat_turn(figures: Inputs) -> Turn:
    """A heartbeat that finds nothing to do: one model step, nobody watches."""
    return turn_of(figures, 1, 0, watched=False)


def load_of(figures: Inputs, sessions: float) -> Load:
    """What comes from so many open sessions."""
    people = sessions * figures("turns_per_session_day")
    beats = sessions * figures("beat_share") * DAY_S / figures("beat_every_s")
    return Load(sessions, people, beats, people / DAY_S * figures("peak_factor") + beats / DAY_S)


def asked_for(figures: Inputs, turn: Turn) -> float:
    """What a turn reads from the server of the volume: looks that the client's cache does not answer, too."""
    return turn.reads + turn.looks * (1 - figures("volume.looks_cached"))


@dataclass(frozen=True)
class Need:
    """What so many sessions need. Rates are those of the busiest quarter of an hour, sums those of a month."""

    load: Load
    slots: float
    workers: int
    cached_share: float  #: of the sessions that fit the workers' caches
    actions_per_s: float
    writes_per_s: float
    shards: int
    pollers: int
    open_bytes: float  #: in Temporal's database, histories of open runs
    kept_bytes: float  #: of closed runs
    actions_a_month: float
    actions_usd: float
    storage_usd: float
    changes_per_s: float
    reads_per_s: float
    volume_bytes_a_month: float
    entries_a_folder: float
    redis_cpus: float
    redis_commands_per_s: float
    worker_usd: float
    volume_usd: float
    model_usd: float
    drain_s: float
    volumes: int
    redises: int
    namespaces: int  #: by their pollers; by actions it is a matter of contract

    @property
    def usd_a_session(self) -> float:
        """A month, the models left out."""
        return (self.actions_usd + self.storage_usd + self.worker_usd + self.volume_usd) / self.load.sessions


def workers_for(figures: Inputs, slots: float, cpu: float, least: int) -> int:
    """By slots and by CPU, whichever asks for more."""
    by_slots = slots / (figures("worker_slots") * figures("slots_target"))
    return max(least, math.ceil(max(by_slots, cpu / figures("cpu_target"))))


def shards_for(figures: Inputs, writes_per_s: float, sessions: float) -> int:
    """A power of two: no shard writes more often, or holds more sessions, than is assumed to be well."""
    wanted = max(writes_per_s / figures("shard.writes_per_s"), sessions / figures("shard.sessions"), 4.0)
    return 2 ** math.ceil(math.log2(wanted))


def need_of(figures: Inputs, sessions: float, least_workers: int = 2) -> Need:
    """What so many open sessions need."""
    load, turn, beat = load_of(figures, sessions), mean_turn(figures), beat_turn(figures)

    def at_peak(of: Callable[[Turn], float]) -> float:
        beats = load.beats_a_day / DAY_S
        return (load.peak - beats) * of(turn) + beats * of(beat)

    def a_month(of: Callable[[Turn], float]) -> float:
        return (load.turns_a_day * of(turn) + load.beats_a_day * of(beat)) * MONTH_DAYS

    slots = at_peak(lambda one: one.slot_s)
    workers = workers_for(figures, slots, at_peak(lambda one: one.worker_cpu_s), least_workers)
    writes, actions = at_peak(lambda one: one.writes), a_month(lambda one: one.actions)
    changes, reads = at_peak(lambda one: one.changes), at_peak(lambda one: asked_for(figures, one))
    mean_bytes = a_month(lambda one: one.history_bytes) / (load.all_a_day * MONTH_DAYS)
    open_bytes = sessions * (mean_bytes * figures("turns_a_run") / 2 + figures("run.carried_bytes"))
    kept_bytes = load.all_a_day * mean_bytes * figures("retention_days")
    stored = a_month(lambda one: one.volume_bytes)
    redis = at_peak(lambda one: one.redis_cpu_s)
    return Need(
        load=load,
        slots=slots,
        workers=workers,
        cached_share=min(1.0, workers * figures("worker_cached") / sessions),
        actions_per_s=at_peak(lambda one: one.actions),
        writes_per_s=writes,
        shards=shards_for(figures, writes, sessions),
        pollers=round(workers * figures("worker_pollers")),
        open_bytes=open_bytes,
        kept_bytes=kept_bytes,
        actions_a_month=actions,
        actions_usd=actions_price(actions),
        storage_usd=storage_price(open_bytes, figures("cloud.active_usd"))
        + storage_price(kept_bytes, figures("cloud.retained_usd")),
        changes_per_s=changes,
        reads_per_s=reads,
        volume_bytes_a_month=stored,
        entries_a_folder=sessions / 256,
        redis_cpus=redis,
        redis_commands_per_s=at_peak(lambda one: one.redis_commands),
        worker_usd=figures("worker_usd_per_hour")
        * 24
        * MONTH_DAYS
        * max(least_workers, workers * figures("scaled_share")),
        volume_usd=stored * figures("kept_months") / GB * figures("volume.usd_per_gb_month"),
        model_usd=load.turns_a_day * MONTH_DAYS * figures("model_usd_per_turn"),
        drain_s=sessions / figures("drain_per_s"),
        volumes=volumes_for(figures, changes, reads),
        redises=max(1, math.ceil(redis / figures("redis.share"))),
        namespaces=max(1, math.ceil(workers * figures("worker_pollers") / figures("cloud.pollers"))),
    )


def volumes_for(figures: Inputs, changes: float, reads: float) -> int:
    """By what changes or by what is read, whichever asks for more."""
    share = figures("volume.share")
    by_changes = changes / (figures("volume.changes_per_s") * share)
    return max(1, math.ceil(max(by_changes, reads / (figures("volume.reads_per_s") * share))))


def carried_by(figures: Inputs) -> dict[str, float]:
    """People's turns a second at the peak that one of each carries, when nothing else is in the way."""
    turn = mean_turn(figures)
    share = figures("volume.share")
    return {
        "worker_by_slots": figures("worker_slots") * figures("slots_target") / turn.slot_s,
        "worker_by_cpu": figures("cpu_target") / turn.worker_cpu_s,
        "shard": figures("shard.writes_per_s") / turn.writes,
        "namespace": figures("cloud.actions_per_s") / turn.actions,
        "volume_by_changes": figures("volume.changes_per_s") * share / turn.changes,
        "volume_by_reads": figures("volume.reads_per_s") * share / asked_for(figures, turn),
        "redis": figures("redis.share") / turn.redis_cpu_s,
    }


def sessions_at(figures: Inputs, turns_per_s: float) -> float:
    """Open sessions whose busiest quarter of an hour has so many people's turns a second."""
    return turns_per_s / (figures("turns_per_session_day") / DAY_S * figures("peak_factor"))

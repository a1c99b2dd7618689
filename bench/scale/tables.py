"""The tables of docs/scaling.md, as Markdown. Pure; no number of its own."""

from collections.abc import Callable, Sequence
from typing import Any

from bench.scale.arithmetic import (
    Need,
    Turn,
    beat_turn,
    carried_by,
    mean_turn,
    need_of,
    sessions_at,
    turn_of,
)
from bench.scale.figures import Inputs

#: name, open sessions, least workers
SIZES = (
    ("one person", 5, 1), ("100", 100, 1), ("10 thousand", 10_000, 2), ("1 million", 1_000_000, 2),
    ("100 million", 100_000_000, 2),
)  # fmt: skip


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The first row is the head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def shown(value: float) -> str:
    """Two digits, or three from 100 on, with thousands, millions, billions in words."""
    for size, word in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if abs(value) >= size:
            return f"{value / size:.3g}{word}"
    if abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{float(f'{value:.2g}'):g}"


def in_bytes(value: float) -> str:
    for size, word in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if value >= size:
            return f"{value / size:.3g} {word}"
    return f"{value:.0f} B"


def in_time(seconds: float) -> str:
    for size, word in ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s")):
        if seconds >= size:
            return f"{float(f'{seconds / size:.2g}'):g} {word}"
    return f"{float(f'{seconds * 1e3:.2g}'):g} ms"


def usd(value: float) -> str:
    return f"${shown(value)}" if value >= 10 else f"${value:.2f}" if value >= 0.01 else f"${value:.4f}"


def turn_table(figures: Inputs) -> str:
    """What one turn costs."""
    turns = {
        "plain": turn_of(figures, 1, 0),
        "2 model steps, 3 tools": turn_of(figures, 2, 3),
        "the mean turn": mean_turn(figures),
        "a heartbeat": beat_turn(figures),
    }
    rows: list[tuple[str, Callable[[Turn], str]]] = [
        ("events of history", lambda one: shown(one.events)),
        ("bytes of history", lambda one: in_bytes(one.history_bytes)),
        ("Temporal actions, heartbeats of its steps among them", lambda one: shown(one.actions)),
        ("writes of the server to its database", lambda one: shown(one.writes)),
        ("CPU time of the worker", lambda one: in_time(one.worker_cpu_s)),
        ("CPU time of the server (SQLite)", lambda one: in_time(one.server_cpu_s)),
        ("slots held, model's and tools' time in it", lambda one: in_time(one.slot_s)),
        (
            "calls on the volume that change or lock; of them fsync",
            lambda one: f"{shown(one.changes)}; {shown(one.syncs)}",
        ),
        ("volume: calls that open or read a file", lambda one: shown(one.reads)),
        ("volume: looks at folders and names, mostly cached", lambda one: shown(one.looks)),
        ("bytes of transcript, text included", lambda one: in_bytes(one.volume_bytes)),
        (
            "Redis: commands; CPU time, one watcher",
            lambda one: f"{shown(one.redis_commands)}; {in_time(one.redis_cpu_s)}",
        ),
    ]
    body = [(name, *(of(turn) for turn in turns.values())) for name, of in rows]
    return markdown([("", *turns), *body])


def idle_table(figures: Inputs) -> str:
    """What a session costs that does nothing."""
    mean = mean_turn(figures).history_bytes
    rows = [
        ("one idle session", ""),
        ("Temporal actions", shown(figures("idle.actions_per_s"))),
        ("CPU", shown(figures("idle_cpu_percent_of_5000")) + " % of one, 5,000 of them together"),
        ("memory of a worker that has it cached", f"{shown(figures('cached_session_kb'))} KB; none when it is not"),
        (
            "Temporal's database: carried state; history of its open run, mean",
            f"{in_bytes(figures('run.carried_bytes'))}; {in_bytes(mean * figures('turns_a_run') / 2)}",
        ),
        ("files and folders on the volume", shown(figures("session.entries"))),
        (
            "to bring it back when it is not cached",
            f"{in_time(figures('cold_s'))}, {in_time(figures('cold_cpu_s'))} of CPU",
        ),
        (
            "to move it to another build",
            f"{shown(figures('move.actions'))} actions, {in_time(figures('move.worker_cpu_s'))} of CPU",
        ),
    ]
    return markdown(rows)


def carried_table(figures: Inputs) -> str:
    """What one of each carries."""
    names = {
        "worker_by_slots": "a worker: 1 CPU, {worker_slots:g} slots, by its slots",
        "worker_by_cpu": "the same, by its CPU",
        "shard": "a history shard, {shard.writes_per_s:g} writes/s",
        "namespace": "a Temporal Cloud namespace at its first limit, {cloud.actions_per_s:g} actions/s",
        "volume_by_changes": "a volume, half of {volume.changes_per_s:,.0f} changes/s",
        "volume_by_reads": "a volume, half of {volume.reads_per_s:,.0f} reads/s",
        "redis": "a Redis, half of one CPU",
    }
    rows = [("", "turns/s", "open sessions")]
    for name, turns in carried_by(figures).items():
        rows.append((_filled(names[name], figures), shown(turns), shown(sessions_at(figures, turns))))
    return markdown(rows)


def _filled(text: str, figures: Inputs) -> str:
    """`{name:format}` by the figure of that name."""
    out, rest = "", text
    while "{" in rest:
        before, _, rest = rest.partition("{")
        field, _, rest = rest.partition("}")
        name, _, form = field.partition(":")
        out += before + format(figures(name), form)
    return out + rest


SIZE_ROWS: tuple[tuple[str, Callable[[Need], str]], ...] = (
    ("turns a day, heartbeats among them", lambda one: shown(one.load.all_a_day)),
    ("turns/s in the busiest quarter of an hour", lambda one: shown(one.load.peak)),
    ("slots in use then; workers", lambda one: f"{shown(one.slots)}; {one.workers:,}"),
    ("sessions that the workers' caches hold", lambda one: f"{one.cached_share * 100:.0f} %"),
    ("Temporal actions/s; a month", lambda one: f"{shown(one.actions_per_s)}; {shown(one.actions_a_month)}"),
    ("database writes/s; history shards, at least", lambda one: f"{shown(one.writes_per_s)}; {one.shards:,}"),
    ("histories, open; closed and kept", lambda one: f"{in_bytes(one.open_bytes)}; {in_bytes(one.kept_bytes)}"),
    ("volume: changes/s; reads/s", lambda one: f"{shown(one.changes_per_s)}; {shown(one.reads_per_s)}"),
    ("transcripts, a month", lambda one: in_bytes(one.volume_bytes_a_month)),
    ("sessions in each of 256 folders", lambda one: shown(one.entries_a_folder)),
    ("Redis: commands/s; CPUs", lambda one: f"{shown(one.redis_commands_per_s)}; {shown(one.redis_cpus)}"),
    ("volumes; Redis servers; namespaces", lambda one: f"{one.volumes:,}; {one.redises:,}; {one.namespaces:,}"),
    ("a drain of all sessions, 50 a second", lambda one: in_time(one.drain_s)),
    ("Temporal Cloud a month: actions; storage", lambda one: f"{usd(one.actions_usd)}; {usd(one.storage_usd)}"),
    ("workers; volume a month", lambda one: f"{usd(one.worker_usd)}; {usd(one.volume_usd)}"),
    ("all that, for one session", lambda one: usd(one.usd_a_session)),
    ("beside it, models a month", lambda one: usd(one.model_usd)),
)


def size_table(figures: Inputs) -> str:
    """From one person to 100 million sessions."""
    needs = [need_of(figures, sessions, least) for _, sessions, least in SIZES]
    rows = [(name, *(of(need) for need in needs)) for name, of in SIZE_ROWS]
    return markdown([("open sessions", *(f"{name} ({n})" if n < 100 else name for name, n, _ in SIZES)), *rows])


def _seconds(one: dict[str, Any], what: str) -> str:
    return " / ".join(f"{one[what][name]:.2f}" for name in ("p50", "p95", "p99")) if one[what] else ""


def _of_turns(one: dict[str, Any], what: str) -> str:
    return f"{one['counts'].get(what, 0) / one['counts']['turns'] * 100:.0f} %"


def _counted(one: dict[str, Any], *names: str) -> str:
    return "; ".join(f"{one['counts'].get(name, 0):,}" for name in names)


DAY_ROWS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("people's turns wait for slots, p50 / p95 / p99 (s)", lambda one: _seconds(one, "wait_s")),
    ("the longest (s)", lambda one: f"{one['wait_s']['most']:.0f}"),
    ("from 14:00 to 15:00", lambda one: _seconds(one, "hour_from_14")),
    ("heartbeats wait", lambda one: _seconds(one, "beat_wait_s")),
    ("all that is not model or tool", lambda one: _seconds(one, "added_s")),
    ("workers, least / mean / most", lambda one: " / ".join(f"{n:g}" for n in one["workers"].values())),
    ("worker hours", lambda one: shown(one["worker_hours"])),
    ("turns whose session was not cached", lambda one: _of_turns(one, "turns of sessions not cached")),
    ("crashes; steps tried again", lambda one: _counted(one, "crashes", "steps tried again")),
    ("the old build is drained after", lambda one: in_time(one["drained_s"]) if one["drained_s"] else ""),
)


def days_table(found: dict[str, Any]) -> str:
    """The simulated days beside each other."""
    days: dict[str, dict[str, Any]] = found["days"]
    return markdown([("", *days), *((name, *(of(one) for one in days.values())) for name, of in DAY_ROWS)])


def hours_table(found: dict[str, Any]) -> str:
    """The first day by the hour, UTC."""
    chosen = [row for row in found["hours"] if row[0] % 2 == 0 and row[0] < 24]
    names = ("hour (UTC)", "workers, most", "slots in use, most")
    return markdown([(name, *(f"{row[at]:,}" for row in chosen)) for at, name in enumerate(names)])


def validated_table(found: dict[str, Any]) -> str:
    """The real system beside the simulation."""
    rows: list[tuple[str, ...]] = [("message to reply", "p50", "p95", "p99")]
    for name, what in (("measured (s)", "measured_s"), ("simulated, median of 20 (s)", "simulated_s")):
        rows.append((name, *(f"{found[what][one]:.2f}" for one in rows[0][1:])))
    spread = (f"{found['lowest_s'][one]:.2f} to {found['greatest_s'][one]:.2f}" for one in rows[0][1:])
    rows.append(("simulated, of 20 (s)", *spread))
    rows.append(("error", *(f"{found['error'][one] * 100:+.0f} %" for one in rows[0][1:])))
    return markdown(rows)


def assumptions_table(figures: Inputs) -> str:
    """Every figure that was not measured."""
    rows = [("figure", "value", "by whom")]
    rows += [(f"`{name}`", f"{one.value:,g} {one.unit}", one.source) for name, one in sorted(figures.assumed.items())]
    return markdown(rows)

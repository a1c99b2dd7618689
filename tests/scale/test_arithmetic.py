"""From figures to sizes; and the document says what the arithmetic says."""

import json
import re
from typing import Any

import pytest

from bench.scale import prices
from bench.scale.__main__ import DOCUMENT, SIMULATED, VALIDATED, all_tables, filled
from bench.scale.arithmetic import KINDS, by_parts, load_of, mean_turn, need_of, shards_for, turn_of
from bench.scale.days import LEAST, MOST, costs_of, rules
from bench.scale.draws import Quantiles
from bench.scale.figures import Inputs, NoFigure, read
from bench.scale.measure_volume import count
from bench.scale.scenario import Beats, People, Turns
from bench.scale.tables import SIZES, in_bytes, in_time, shown
from bench.scale.visitors import peak_factor


@pytest.fixture(scope="module")
def figures() -> Inputs:
    return read()


def test_the_document_has_the_tables_that_the_arithmetic_prints(figures: Inputs) -> None:
    """After a change: python -m bench.scale write."""
    text = DOCUMENT.read_text()
    assert filled(text, all_tables(figures)) == text


def test_a_turn_made_of_its_parts_costs_what_that_turn_was_measured_to_cost(figures: Inputs) -> None:
    """Side by side: two model steps and three calls; one by one: four and three."""
    for what in ("events", "writes", "volume_sync"):
        for kind, steps in zip(KINDS, (1, 2, 4), strict=True):
            plain, step, tool = by_parts(figures, what)
            made = plain + (steps - 1) * step + (3 if steps > 1 else 0) * tool
            assert made == pytest.approx(figures(f"{kind}.{what}"), rel=0.02), (what, kind)


def test_heartbeats_of_a_long_step_are_paid_for(figures: Inputs) -> None:
    turn = turn_of(figures, 1, 0)
    waits = figures("model_step_s") * figures("heartbeats_per_s")
    assert turn.actions == pytest.approx(figures("plain.actions") + waits + figures("waiting.queries") + 1 / 50)
    assert turn_of(figures, 1, 0, watched=False).actions == pytest.approx(turn.actions - figures("waiting.queries"))


def test_twice_the_sessions_need_twice_as_much(figures: Inputs) -> None:
    one, two = need_of(figures, 1_000_000), need_of(figures, 2_000_000)
    for name in ("slots", "actions_per_s", "writes_per_s", "open_bytes", "changes_per_s", "redis_cpus", "drain_s"):
        assert getattr(two, name) == pytest.approx(2 * getattr(one, name)), name
    assert 2 * one.workers - 1 <= two.workers <= 2 * one.workers


def test_no_size_asks_more_of_a_worker_or_a_shard_than_it_carries(figures: Inputs) -> None:
    for _, sessions, least in SIZES:
        need = need_of(figures, sessions, least)
        assert need.slots <= need.workers * figures("worker_slots") * figures("slots_target")
        assert need.shards & (need.shards - 1) == 0, "not a power of two"
        assert need.writes_per_s <= need.shards * figures("shard.writes_per_s")
        assert sessions <= need.shards * figures("shard.sessions")
        assert need.redis_cpus <= need.redises * figures("redis.share")
        assert need.changes_per_s <= need.volumes * figures("volume.changes_per_s") * figures("volume.share")
        assert need.pollers <= need.namespaces * figures("cloud.pollers")


def test_shards_follow_the_sessions_where_they_write_seldom(figures: Inputs) -> None:
    assert shards_for(figures, 1.0, 100 * figures("shard.sessions")) == 128


def test_the_price_of_actions_is_that_of_the_price_lists_own_example() -> None:
    assert prices.actions_price(11.25e6) == pytest.approx(525.0)
    assert prices.storage_price(720 * prices.GB / prices.HOURS_A_MONTH, 0.042) == pytest.approx(30.24)


def test_simulation_and_arithmetic_assume_the_same(figures: Inputs) -> None:
    people, turns, beating = People(), Turns(), Beats()
    assert figures("turns_per_session_day") == people.conversations_a_day * people.messages
    assert figures("peak_factor") == pytest.approx(peak_factor(people), abs=0.05)
    assert figures("model_steps") == 1 / (1 - turns.more)
    assert figures("tool_calls") == (1 / (1 - turns.more) - 1) * sum(turns.calls) / len(turns.calls)
    assert figures("model_step_s") == pytest.approx(turns.model.mean_s, rel=0.01)
    assert figures("tool_s") == pytest.approx(turns.tool.mean_s, rel=0.03)
    assert (figures("beat_share"), figures("beat_every_s")) == (beating.share, beating.every_s)


def test_the_simulated_day_holds_as_many_slots_as_the_arithmetic_says(figures: Inputs) -> None:
    """Two ways to the same number: 50,000 sessions, all their steps, one day."""
    simulated: dict[str, Any] = json.loads(SIMULATED.read_text())
    day = simulated["days"]["backlog and slots"]
    load = load_of(figures, simulated["sessions"])
    assert day["counts"]["person messages"] == pytest.approx(load.turns_a_day, rel=0.02)
    expected = load.turns_a_day * mean_turn(figures).slot_s + load.beats_a_day * turn_of(figures, 1, 0).slot_s
    assert day["slot_hours"] * 3_600 == pytest.approx(expected, rel=0.05)


def test_the_simulated_days_answered_everybody() -> None:
    for name, day in json.loads(SIMULATED.read_text())["days"].items():
        counts = day["counts"]
        assert counts["person messages"] == counts["person messages answered"] > 100_000, name
        assert counts["beat messages"] == counts["beat messages answered"], name


def test_the_simulation_was_near_the_real_system() -> None:
    """What was measured beside it: p50 and p95 within a quarter, as the document says."""
    error = json.loads(VALIDATED.read_text())["error"]
    assert abs(error["p50"]) < 0.25
    assert abs(error["p95"]) < 0.25


def test_the_days_use_what_was_measured(figures: Inputs) -> None:
    costs = costs_of(figures)
    assert costs.held.mean_s == pytest.approx(figures("held_s"), rel=0.25)
    assert {(rule.least, rule.most) for rule in rules().values()} == {(LEAST, MOST)}


def test_a_figure_that_is_not_there_is_named(figures: Inputs) -> None:
    with pytest.raises(NoFigure, match="no_such_figure"):
        figures("no_such_figure")


def test_a_document_without_a_place_for_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="sizes"):
        filled("# Scaling\n", {"sizes": "| |"})


def test_every_assumption_has_a_source_and_stands_in_the_document(figures: Inputs) -> None:
    text = DOCUMENT.read_text()
    for name, figure in figures.assumed.items():
        assert re.search(r"\w{4}", figure.source), name
        assert f"`{name}`" in text, name


def test_numbers_are_shown_with_the_digits_that_can_be_meant() -> None:
    assert [shown(value) for value in (0.0, 0.0123, 4.0, 12.34, 123.4, 12_345, 2.5e6, 3.1e9)] == [
        "0", "0.012", "4", "12", "123", "12,300", "2.5 million", "3.1 billion",
    ]  # fmt: skip
    assert [in_bytes(value) for value in (17, 1_536, 2.5e12)] == ["17 B", "1.54 KB", "2.5 TB"]
    assert [in_time(value) for value in (0.0125, 5.5, 200, 2_000_000)] == ["12 ms", "5.5 s", "3.3 min", "23 days"]


def test_quantiles_are_those_of_the_samples() -> None:
    made = Quantiles.of([float(at) for at in range(101)])
    assert (made.values[0], made.values[10], made.values[-1]) == (0.0, 50.0, 100.0)
    assert made.mean_s == pytest.approx(50.0)


TRACE = """\
811 openat(12</data/sessions/ab>, "x-1", O_RDONLY|O_DIRECTORY) = 13</data/sessions/ab/x-1>
811 openat(13</data/sessions/ab/x-1>, "history.jsonl", O_RDWR) = 15</data/sessions/ab/x-1/history.jsonl>
811 flock(13</data/sessions/ab/x-1/history.jsonl>, LOCK_EX|LOCK_NB) = 0
812 write(13</data/sessions/ab/x-1/history.jsonl>, ""..., 311 <unfinished ...>
811 openat(AT_FDCWD, "/etc/hosts", O_RDONLY) = 14</etc/hosts>
812 <... write resumed>) = 311
811 fsync(13</data/sessions/ab/x-1/history.jsonl>) = 0
811 newfstatat(12</data>, ".agent-session-volume", {st_mode=S_IFREG|0600}, 0) = 0
811 write(1<pipe:[5]>, ""..., 5) = 5
"""


def test_only_calls_on_the_volume_are_counted_and_each_once() -> None:
    assert count(TRACE, "/data") == {
        "folder": 1, "open": 1, "lock": 1, "write": 1, "sync": 1, "stat": 1,
    }  # fmt: skip

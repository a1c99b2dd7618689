"""`make bench-check`: a ratio that got worse and stays so is found; noise, and a faster machine, are not."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import report
from bench.__main__ import BASELINE as BASELINE_FILE
from bench.check import TRIES, confirmed, missing, regressed, worse
from bench.numbers import HIGHER, Metric, latencies, percentile

WARM = Metric("turn.warm.p50", 26.0, "ms", 20.0, goal=1.6)
RATE = Metric("throughput.50_sessions", 36.0, "turns/s", 40.0, HIGHER, 0.7)
ALONE = Metric("recovery.next_event.p50", 4.0, "s", goal=6.0)
BASELINE = [WARM, RATE, ALONE]


def ratio(of: Metric, ratio: float) -> Metric:
    assert of.floor is not None
    return Metric(of.name, of.floor * ratio, of.unit, of.floor, of.better, of.goal)


class Runs:
    """Measures again: what the next runs will find."""

    def __init__(self, *results: list[Metric]) -> None:
        self._results, self.families = list(results), list[str]()

    async def __call__(self, family: str) -> list[Metric]:
        self.families.append(family)
        return self._results.pop(0)


@pytest.mark.parametrize(
    ("before", "now", "found"),
    [
        (WARM, ratio(WARM, 1.3 * 1.19), False),
        (WARM, ratio(WARM, 1.3 * 1.21), True),
        (WARM, ratio(WARM, 0.5), False),
        (RATE, ratio(RATE, 0.9 * 0.81), False),
        (RATE, ratio(RATE, 0.9 * 0.79), True),
        (RATE, ratio(RATE, 2.0), False),
        (Metric("turn.warm.p95", 1, "ms", 1), Metric("turn.warm.p95", 3, "ms", 1), False),
        (ALONE, replace(ALONE, value=5.9), False),
        (ALONE, replace(ALONE, value=6.1), True),
        (replace(ALONE, value=7.0), replace(ALONE, value=9.0), False),
        (Metric("long_turn.history", 100, "KB"), Metric("long_turn.history", 119, "KB"), False),
        (Metric("long_turn.history", 100, "KB"), Metric("long_turn.history", 121, "KB"), True),
    ],
)
def test_more_than_a_fifth_worse_or_a_lost_goal_is_a_regression_in_the_direction_that_counts(
    before: Metric, now: Metric, found: bool
) -> None:
    assert regressed(before, now) is found


def test_a_slower_machine_is_no_regression() -> None:
    slower = [replace(one, value=one.value * 5, floor=one.floor and one.floor * 5, goal=None) for one in BASELINE]
    assert worse(BASELINE, slower) == {}


def test_what_is_new_is_left_out() -> None:
    assert worse(BASELINE, [ratio(Metric("turn.new.p50", 1, "ms", 1), 9)]) == {}


def test_what_a_measured_family_lacks_is_named() -> None:
    """Else a number that was renamed would be guarded no more, and nobody would know."""
    assert missing(BASELINE, [Metric("turn.warmer.p50", 1, "ms", 1), RATE]) == ["turn.warm.p50"]


async def test_a_regression_that_repeats_is_found() -> None:
    bad = ratio(WARM, 1.9)
    again = Runs([bad], [bad])
    found = await confirmed(BASELINE, [bad, RATE], again)
    assert list(found) == ["turn.warm.p50"]
    assert again.families == ["turn"] * (TRIES - 1)


async def test_noise_that_does_not_repeat_is_not() -> None:
    again = Runs([ratio(WARM, 1.35)])
    assert await confirmed(BASELINE, [ratio(WARM, 1.9), RATE], again) == {}
    assert again.families == ["turn"], "once it is as before nothing more is measured"


async def test_noise_that_moves_from_one_number_to_another_is_not() -> None:
    first, other = ratio(WARM, 1.9), Metric("turn.new.p50", 9, "ms", 1)
    baseline = [*BASELINE, Metric("turn.new.p50", 1, "ms", 1)]
    assert await confirmed(baseline, [first], Runs([WARM, other])) == {}


async def test_without_a_regression_nothing_is_measured_again() -> None:
    assert await confirmed(BASELINE, BASELINE, Runs()) == {}


def test_goals_are_of_the_ratio_or_of_the_value() -> None:
    assert WARM.met
    assert not ratio(WARM, 1.7).met
    assert RATE.met
    assert not ratio(RATE, 0.6).met
    assert ALONE.met
    assert Metric("x", 2_000, "B", 1_000, goal=3_000, goal_of="value").met
    assert Metric("x", 1, "s").met is None


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    report.write(tmp_path / "x.json", {"cpus": 2}, BASELINE)
    assert report.read(tmp_path / "x.json") == BASELINE
    assert json.loads((tmp_path / "x.json").read_text())["metrics"][0]["ratio"] == pytest.approx(1.3)


def test_the_committed_baseline_is_a_quick_run_of_every_family_that_has_a_ratio() -> None:
    baseline = {one.name: one for one in report.read(BASELINE_FILE)}
    assert json.loads(BASELINE_FILE.read_text())["about"]["quick"]
    judged = {one.family for one in baseline.values() if regressed(one, replace(one, value=one.value * 1e9))}
    assert {"turn", "history", "long_turn", "priority", "sessions", "transcript", "start"} <= judged
    assert baseline["turn.warm.p50"].met
    assert baseline["throughput.50_sessions"].met


def test_the_table_says_what_was_missed() -> None:
    rows = report.table([WARM, ratio(RATE, 0.5)]).splitlines()
    assert len({len(row) for row in rows}) == 1
    assert "met" in rows[2]
    assert "MISSED" in rows[3]


def test_percentiles_are_samples() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([float(n) for n in range(1, 101)], 95) == 95.0
    p50, p95 = latencies("a.b", [0.003, 0.001, 0.002], [0.001] * 3, 1.5)
    assert (p50.value, p50.ratio, p95.value) == (pytest.approx(2.0), pytest.approx(2.0), pytest.approx(3.0))
    assert not p50.met

"""What the simulation keeps to, whatever happens in it."""

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from math import exp

import pytest

from bench.scale.draws import Lognormal
from bench.scale.outcome import Outcome
from bench.scale.scaler import Rule
from bench.scale.scenario import Beats, Fleet
from bench.scale.simulation import simulate
from tests.scale.support import EVEN, SOME, busy, one_slot


@pytest.fixture(scope="module")
def day() -> Outcome:
    return simulate(busy())


def test_everything_that_can_happen_happens_in_the_day_that_these_tests_judge(day: Outcome) -> None:
    for name in ("crashes", "steps tried again", "sessions moved", "beats skipped", "turns of sessions not cached"):
        assert day.counts[name], f"{name}: none"
    assert day.counts["turns"] < day.counts["person messages"] + day.counts["beat messages"], (
        "no turn took two messages"
    )
    assert day.summary()["workers"]["most"] > day.summary()["workers"]["least"]


def test_every_message_is_answered_exactly_once(day: Outcome) -> None:
    assert day.counts["person messages answered"] == day.counts["person messages"] > 1_500
    assert day.counts["beat messages answered"] == day.counts["beat messages"] > 500
    assert len(day.replies) == day.counts["person messages"]


def test_every_beat_is_sent_or_skipped(day: Outcome) -> None:
    assert day.counts["beat messages"] + day.counts["beats skipped"] == 200 * 6


def test_a_slot_holds_one_step_at_a_time(day: Outcome) -> None:
    held: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for worker, slot, began, ended in day.slots:
        held[worker, slot].append((began, ended))
    assert {slot for _, slot in held} == {0, 1, 2, 3}
    for them in held.values():
        them.sort()
        for (_, ended), (began, _) in pairwise(them):
            assert ended <= began


def test_every_step_and_every_attempt_again_held_a_slot(day: Outcome) -> None:
    assert len(day.slots) == day.counts["steps"] + day.counts["steps tried again"]
    assert day.slot_s == pytest.approx(sum(ended - began for _, _, began, ended in day.slots))


def test_a_deploy_moves_every_session_once_and_fails_no_turn(day: Outcome) -> None:
    assert day.counts["sessions moved"] == 400
    assert day.drained_s >= 400 / 5.0
    old = [workers for _, build, workers, _, _ in day.samples if build == 0]
    assert old[-1] == 0, "the old build's workers are still there"


def test_the_same_seed_gives_the_same_day_and_another_one_does_not(day: Outcome) -> None:
    again = simulate(busy())
    assert again.summary() == day.summary()
    assert list(again.waits) == list(day.waits)
    assert list(simulate(busy(seed=2)).waits) != list(day.waits)


def test_another_fleet_meets_the_same_people() -> None:
    """Else two scalers could not be compared."""
    calm = replace(busy(), people=replace(busy().people, messages=1.0, impatient=0.0))
    small, large = (
        simulate(replace(calm, fleet=replace(calm.fleet, slots=slots, crashes_a_day=0.0))) for slots in (4, 40)
    )
    assert small.counts["person messages"] == large.counts["person messages"]


def test_people_go_before_heartbeats(day: Outcome) -> None:
    assert day.summary()["beat_wait_s"]["p95"] > day.summary()["wait_s"]["p95"]


@pytest.mark.parametrize("work", [Lognormal(1.0, 0.0), Lognormal(0.8, 0.7)], ids=["even", "uneven"])
def test_a_queue_before_one_slot_waits_as_long_as_theory_says(work: Lognormal) -> None:
    """Pollaczek and Khinchine: rate x E[work²] / 2 (1 - load)."""
    per_s = 0.6 / work.mean_s
    second_moment = work.mean_s**2 * exp(work.sigma**2)
    outcome = simulate(one_slot(per_s, work, 30_000.0))
    measured = sum(outcome.waits) / len(outcome.waits)
    assert measured == pytest.approx(per_s * second_moment / (2 * (1 - 0.6)), rel=0.08)


def test_a_session_that_stays_cached_is_never_replayed_again() -> None:
    quiet = Fleet(slots=40, cached=1_000, crashes_a_day=0.0, rule=Rule(least=2, most=2))
    outcome = simulate(busy(fleet=quiet, deploy=None, beats=Beats(share=0.0)))
    assert outcome.counts["turns of sessions not cached"] <= 400 < outcome.counts["turns"]


def test_a_message_to_an_idle_fleet_waits_for_no_slot() -> None:
    calm = busy(people=replace(EVEN, conversations_a_day=1.0), deploy=None, fleet=Fleet(slots=40, crashes_a_day=0.0))
    outcome = simulate(replace(calm, costs=SOME))
    assert max(outcome.waits) == 0.0

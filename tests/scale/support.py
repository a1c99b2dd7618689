"""Small days for tests: the costs are round numbers, so that what comes out can be said beforehand."""

from dataclasses import replace
from typing import Any

from bench.scale.draws import Lognormal, Quantiles
from bench.scale.scaler import Rule
from bench.scale.scenario import HOUR_S, Beats, Costs, Deploy, Fleet, People, Scenario, Turns

NOTHING = Costs(
    around=Quantiles((0.0, 0.0)), held=Quantiles((0.0, 0.0)), cpu_s=0.0, cold_s=0.0, cold_cpu_s=0.0, move_cpu_s=0.0
)
SOME = replace(
    NOTHING, around=Quantiles((0.01, 0.05)), held=Quantiles((0.01, 0.02)), cpu_s=0.01, cold_s=0.05, cold_cpu_s=0.01
)
EVEN = People(messages=1.0, impatient=0.0, hours=(1.0,) * 24, zones=((0, 1.0),))


def busy(**more: Any) -> Scenario:
    """Three hours in which everything happens: few slots, crashes, scaling, a deploy, heartbeats on the minute."""
    fleet = Fleet(slots=4, cached=60, grace_s=5.0, crashes_a_day=40.0, rule=Rule(least=2, most=12))
    given: dict[str, Any] = {
        "sessions": 400,
        "costs": SOME,
        "length_s": 3 * HOUR_S,
        "people": replace(People(), conversations_a_day=12.0),
        "beats": Beats(share=0.5, jitter_s=60.0),
        "fleet": fleet,
        "deploy": Deploy(at_s=1.5 * HOUR_S, moves_per_s=5.0),
        "keep_slots": True,
    }
    return Scenario(**(given | more))


def one_slot(per_s: float, work: Lognormal, length_s: float) -> Scenario:
    """One worker with one slot, so many sessions that none is busy when its message comes: a plain queue."""
    return Scenario(
        sessions=20_000,
        costs=NOTHING,
        length_s=length_s,
        people=replace(EVEN, conversations_a_day=per_s * 86_400 / 20_000),
        beats=Beats(share=0.0),
        turns=Turns(model=work, more=0.0),
        fleet=Fleet(slots=1, start_s=0.0, crashes_a_day=0.0, rule=Rule(least=1, most=1)),
    )

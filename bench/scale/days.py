"""The days that docs/scaling.md shows: one population, one day, several ways to run the fleet. Values and wiring."""

from dataclasses import replace
from typing import Any

from bench.scale.draws import Quantiles
from bench.scale.figures import Inputs
from bench.scale.outcome import Outcome
from bench.scale.scaler import Rule
from bench.scale.scenario import HOUR_S, Beats, Costs, Deploy, Fleet, Scenario
from bench.scale.simulation import simulate

SESSIONS, SEED = 50_000, 1
DEPLOY_S = 14 * HOUR_S  #: near the busiest time
LEAST, MOST = 2, 100


def costs_of(figures: Inputs) -> Costs:
    """As measured. What a step computes is the mean turn's CPU time by its steps and calls."""
    stages = 1 + 3 + 1
    return Costs(
        around=Quantiles(figures.quantiles["around"]),
        held=Quantiles(figures.quantiles["held"]),
        cpu_s=figures("three_tools_in_one_round.worker_cpu_s") / stages,
        cold_s=figures("cold_s"),
        cold_cpu_s=figures("cold_cpu_s"),
        move_cpu_s=figures("move.worker_cpu_s"),
        recovery_s=figures("recovery_s"),
    )


def day(figures: Inputs, *, rule: Rule, deploy: bool = False, sessions: int = SESSIONS, seed: int = SEED) -> Scenario:
    """One of them."""
    fleet = Fleet(
        slots=round(figures("worker_slots")),
        cached=round(figures("worker_cached")),
        start_s=figures("pod_start_s") + figures("worker_ready_s"),
        rule=rule,
    )
    moves = Deploy(at_s=DEPLOY_S, moves_per_s=figures("drain_per_s")) if deploy else None
    return Scenario(sessions=sessions, costs=costs_of(figures), seed=seed, fleet=fleet, deploy=moves)


def rules() -> dict[str, Rule]:
    """The first is what k8s/components/keda ships, the last what k8s/components/worker-controller does."""
    both = Rule(least=LEAST, most=MOST)
    alone = replace(both, slots_target=0.0)
    kept = replace(alone, backlog_target=2.0, settle_s=1_800.0)
    return {"backlog and slots": both, "backlog alone": alone, "versioned: backlog alone": kept}


def simulated(figures: Inputs, sessions: int = SESSIONS) -> dict[str, Any]:
    """All of them, as plain numbers. Takes some minutes."""
    found: dict[str, Any] = {
        "sessions": sessions, "seed": SEED, "slots": figures("worker_slots"), "days": {}, "hours": {},
    }  # fmt: skip
    most = 0
    for name, rule in rules().items():
        outcome = simulate(day(figures, rule=rule, sessions=sessions))
        found["days"][name] = _plain(outcome)
        if name == "backlog and slots":
            found["hours"] = outcome.hours()
            most = found["days"][name]["workers"]["most"]
    spread = replace(day(figures, rule=rules()["backlog and slots"], sessions=sessions), beats=Beats(jitter_s=1_800.0))
    found["days"]["backlog and slots, heartbeats spread"] = _plain(simulate(spread))
    fixed = Rule(least=most, most=most)
    found["days"][f"{most} workers all day"] = _plain(simulate(day(figures, rule=fixed, sessions=sessions)))
    with_deploy = day(figures, rule=rules()["backlog and slots"], deploy=True, sessions=sessions)
    found["days"]["backlog and slots, deploy at 14:00"] = _plain(simulate(with_deploy))
    return found


def _plain(outcome: Outcome) -> dict[str, Any]:
    return outcome.summary() | {"hour_from_14": outcome.between(DEPLOY_S, DEPLOY_S + HOUR_S)}

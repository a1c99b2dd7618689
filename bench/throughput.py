"""Turns per second with many sessions at once, with one and with two worker processes; what a turn costs in
CPU time, and whose. Each session sends its next message when the last one is answered."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from bench.numbers import HIGHER, LOWER, Metric
from bench.processes import cpu_s
from bench.world import Sides, Worker, World, fresh

GOAL_AT, GOAL = 50, 0.8
TWO_WORKERS_GOAL = 1.6
THINKS_MS, SLOTS = 250, 3  #: a model as slow, and workers as small, that the server is not the limit
LONGEST_S, QUICK_S = 15.0, 4.0  #: of one round of one side; no turn begins later

Turn = Callable[[str], Awaitable[object]]


@dataclass
class Side:
    """One side's sum over its rounds."""

    turn: Turn
    workers: list[Worker]
    keys: list[str] = field(default_factory=list)
    turns: int = 0
    seconds: float = 0.0
    cpu: dict[str, float] = field(default_factory=lambda: {"worker": 0.0, "server": 0.0, "client": 0.0})

    @property
    def rate(self) -> float:
        return self.turns / self.seconds

    def per_turn_ms(self, whose: str) -> float:
        return self.cpu[whose] / self.turns * 1e3


async def run_turns(turn: Turn, keys: list[str], count: int, longest_s: float = 1e9) -> int:
    """`count` turns, spread over the sessions; returns how many were begun in time, all of them ended."""
    left, until = iter(range(count)), time.monotonic() + longest_s
    done = 0

    async def session(key: str) -> None:
        nonlocal done
        while time.monotonic() < until and next(left, None) is not None:
            await turn(key)
            done += 1

    await asyncio.gather(*(session(key) for key in keys))
    return done


async def _round(side: Side, count: int, server: int, longest_s: float) -> None:
    pids = {"worker": [one.pid for one in side.workers], "server": [server], "client": [os.getpid()]}
    before = {name: cpu_s(*them) for name, them in pids.items()}
    began = time.perf_counter()
    side.turns += await run_turns(side.turn, side.keys, count, longest_s)
    side.seconds += time.perf_counter() - began
    for name, them in pids.items():
        side.cpu[name] += cpu_s(*them) - before[name]


def sides_of(both: Sides, sessions: int) -> tuple[Side, Side]:
    ours = Side(both.turn, both.workers, [fresh() for _ in range(sessions)])
    return ours, Side(both.floor.turn, both.floor_workers, [fresh("floor") for _ in range(sessions)])


async def compare(both: Sides, world: World, sessions: int, count: int, longest_s: float) -> tuple[Side, Side]:
    """A round of each in turn, and once more the other way round, of sessions that live already; thousands of
    sessions are long enough at work for one."""
    pair = sides_of(both, sessions)
    for side in pair:
        await run_turns(side.turn, side.keys, sessions)
    for order in (pair[::-1], pair)[: 1 if sessions >= 1_000 else 2]:
        for side in order:
            await _round(side, count, world.server_pid, longest_s)
    return pair


def _metrics(name: str, ours: Side, floor: Side, goal: float | None) -> list[Metric]:
    busy = ours.cpu["worker"] / ours.seconds, ours.cpu["server"] / ours.seconds, ours.cpu["client"] / ours.seconds
    note = "CPUs busy: worker {:.2f}, server {:.2f}, client {:.2f}".format(*busy)
    found = [Metric(f"throughput.{name}", ours.rate, "turns/s", floor.rate, HIGHER, goal, note=note)]
    return found + [
        Metric(f"throughput.{name}.{whose}_cpu", ours.per_turn_ms(whose), "ms/turn", floor.per_turn_ms(whose), LOWER)
        for whose in ("worker", "server")
    ]


async def measure(world: World, quick: bool) -> list[Metric]:
    longest_s = QUICK_S if quick else LONGEST_S
    sizes = {1: 30, GOAL_AT: 120} if quick else {1: 150, 10: 300, GOAL_AT: 500, 100: 500, 1_000: 1_000}
    found: list[Metric] = []
    async with world.sides() as both:
        await both.turn(fresh())
        for sessions, count in sizes.items():
            ours, floor = await compare(both, world, sessions, count, longest_s)
            found += _metrics(f"{sessions}_sessions", ours, floor, GOAL if sessions == GOAL_AT else None)
    found += await _two_workers(world, 100 if quick else 400, longest_s)
    return [*found, await _two_workers_that_wait(world, longest_s)]


async def _two_workers(world: World, count: int, longest_s: float) -> list[Metric]:
    """One worker and two, in turn. On a machine whose CPUs are all busy a second worker has nothing to run on."""
    async with world.sides() as one, world.sides(ours=2, floors=2) as two:
        pairs = [sides_of(both, GOAL_AT) for both in (one, two)]
        for side in (*pairs[0], *pairs[1]):
            await run_turns(side.turn, side.keys, GOAL_AT)
        for _ in range(2):
            for side in (*pairs[0], *pairs[1]):
                await _round(side, count, world.server_pid, longest_s)
    (ours, floor), (ours_two, floor_two) = pairs
    busy = sum(ours_two.cpu.values()) / ours_two.seconds
    note = (
        f"{busy:.2f} of {os.cpu_count()} CPUs busy with two workers; the floor gains {floor_two.rate / floor.rate:.2f}x"
    )
    return [
        *_metrics(f"{GOAL_AT}_sessions_2_workers", ours_two, floor_two, None),
        Metric(
            "throughput.second_worker_gain", ours_two.rate / ours.rate, "x", floor_two.rate / floor.rate, HIGHER,
            TWO_WORKERS_GOAL, "value", note,
        ),
    ]  # fmt: skip


async def _two_workers_that_wait(world: World, longest_s: float) -> Metric:
    """One worker and two where the model's time is what a turn takes, as it is in life, and a worker's slots are
    full."""
    rates: list[float] = []
    for workers in (1, 2):
        async with world.sides(ours=workers, floors=0, WORKER__CONCURRENT_ACTIVITIES=str(SLOTS)) as both:
            keys = [fresh() for _ in range(GOAL_AT)]
            await run_turns(both.turn, keys, GOAL_AT)
            began = time.perf_counter()
            done = await run_turns(lambda key, at=both: at.turn(key, f"think {THINKS_MS}"), keys, 10_000, longest_s)
            rates.append(done / (time.perf_counter() - began))
    note = f"{rates[0]:.1f} and {rates[1]:.1f} turns/s; a model of {THINKS_MS} ms, {SLOTS} steps at once a worker"
    return Metric(
        "throughput.second_worker_gain_slow_model", rates[1] / rates[0], "x", None, HIGHER, TWO_WORKERS_GOAL, note=note
    )

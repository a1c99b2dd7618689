"""Does the simulation tell the truth? The real system at a small size, and the same in simulation.

50 sessions, two worker processes of three slots, messages that come by chance, a model that thinks for lognormal
times: 70 % of the slots are in use, so that messages do wait. What the machinery itself adds is measured in the
same minutes, with one turn at a time. A message that comes while its session is busy waits for the next turn.
"""

import asyncio
import time
from random import Random
from typing import Any

from bench.numbers import median, percentile
from bench.scale.draws import Lognormal, Quantiles
from bench.scale.measure_turns import slots_held
from bench.scale.outcome import quantiles
from bench.scale.scaler import Rule
from bench.scale.scenario import DAY_S, Beats, Costs, Fleet, People, Scenario, Turns
from bench.scale.simulation import simulate
from bench.world import Sides, World, fresh, world

SESSIONS, WORKERS, SLOTS = 50, 2, 3
THINKS = Lognormal(4.0, 0.5)
RATE, LENGTH_S, SEEDS = 0.9, 270.0, 20  #: messages a second
ALONE = 40  #: turns one at a time


async def validate() -> dict[str, Any]:
    """Seconds from a message to its reply: measured, simulated, and the difference."""
    async with world() as here, here.sides(ours=WORKERS, floors=0, WORKER__CONCURRENT_ACTIVITIES=str(SLOTS)) as both:
        keys = [fresh("v") for _ in range(SESSIONS)]
        for key in keys:
            await both.turn(key)
        costs = await _costs(here, both, keys[0])
        real = await _run(both, keys)
    simulated = [list(simulate(scenario(costs, seed)).replies) for seed in range(SEEDS)]
    found: dict[str, Any] = {
        "about": f"{SESSIONS} sessions, {WORKERS} workers of {SLOTS} slots, {RATE} messages/s, {LENGTH_S:.0f} s",
        "messages": len(real),
        "measured_s": quantiles(real),
        "simulated_s": {},
        "lowest_s": {},
        "greatest_s": {},
        "error": {},
    }
    for percent in (50, 95, 99):
        name, each = f"p{percent}", [percentile(one, percent) for one in simulated]
        found["simulated_s"][name] = round(median(each), 3)
        found["lowest_s"][name], found["greatest_s"][name] = round(min(each), 3), round(max(each), 3)
        found["error"][name] = round(median(each) / found["measured_s"][name] - 1, 3)
    return found


def scenario(costs: Costs, seed: int) -> Scenario:
    """The same as the real run, in the words of the simulation."""
    return Scenario(
        sessions=SESSIONS,
        costs=costs,
        seed=seed,
        length_s=LENGTH_S,
        people=People(
            conversations_a_day=RATE * DAY_S / SESSIONS,
            messages=1.0,
            impatient=0.0,
            hours=(1.0,) * 24,
            zones=((0, 1.0),),
        ),
        beats=Beats(share=0.0),
        turns=Turns(model=THINKS, more=0.0),
        fleet=Fleet(slots=SLOTS, start_s=0.0, crashes_a_day=0.0, rule=Rule(least=WORKERS, most=WORKERS)),
    )


async def _costs(here: World, both: Sides, key: str) -> Costs:
    """What the machinery adds now, with nothing else at work."""
    before, took = len(await slots_held(here, key)), list[float]()
    for _ in range(ALONE):
        began = time.perf_counter()
        await both.turn(key)
        took.append(time.perf_counter() - began)
    held = (await slots_held(here, key))[before:]
    around = Quantiles.of([max(0.0, one - median(held)) for one in took])
    return Costs(around=around, held=Quantiles.of(held), cpu_s=0.008, cold_s=0.0, cold_cpu_s=0.0, move_cpu_s=0.0)


async def _run(both: Sides, keys: list[str]) -> list[float]:
    source, took, asking = Random("validate"), list[float](), list[asyncio.Task[None]]()
    began = time.monotonic()
    at_s = 0.0

    async def ask(key: str, text: str) -> None:
        sent = time.perf_counter()
        await both.turn(key, text)
        took.append(time.perf_counter() - sent)

    while (at_s := at_s + source.expovariate(RATE)) < LENGTH_S:
        await asyncio.sleep(max(0.0, began + at_s - time.monotonic()))
        text = f"think {THINKS.draw(source) * 1e3:.0f}"
        asking.append(asyncio.create_task(ask(keys[int(source.random() * len(keys))], text)))
    await asyncio.gather(*asking)
    return took

"""Takes the figures that arithmetic and simulation begin with, on the real system. Wiring: what is measured how
stands in `measure_*.py`. Each family gives figures and quantiles by name."""

import sys
import time
from collections.abc import Awaitable, Callable

from bench import report
from bench.scale import measure_redis, measure_turns, measure_volume
from bench.scale.figures import Figure, write_measured
from bench.world import World, world

Measured = tuple[dict[str, Figure], dict[str, tuple[float, ...]]]
FAMILIES: dict[str, Callable[[World], Awaitable[Measured]]] = {
    "temporal": measure_turns.temporal,
    "time": measure_turns.times,
    "cpu": measure_turns.cpu,
    "moves": measure_turns.moves,
    "idle": measure_turns.idle,
    "volume": measure_volume.operations,
    "folders": measure_volume.folders,
    "redis": measure_redis.messages,
}


async def measure(only: list[str]) -> None:
    """Take them, and write each family into inputs.json as soon as it is there."""
    about = report.machine()
    async with world() as here:
        for name in only or FAMILIES:
            began = time.monotonic()
            figures, quantiles = await FAMILIES[name](here)
            write_measured(about, figures, quantiles)
            print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            for figure, one in figures.items():
                print(f"  {figure} = {one.value:g} {one.unit}", file=sys.stderr, flush=True)

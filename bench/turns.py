"""Turn latency with a model that takes no time: warm and new sessions, three tools side by side and one after
another, and how long a streamed token is on its way. Floor and product take turns, so noise meets both."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from bench.numbers import Metric, latencies, median, percentile
from bench.world import Sides, World, fresh

Turn = Callable[[], Awaitable[None]]

WARM_GOAL, NEW_GOAL, STREAM_GOAL_MS = 1.2, 2.0, 20.0
TOOL_BYTES = 100


async def in_turn(ours: Turn, floor: Turn, count: int) -> tuple[list[float], list[float]]:
    """Seconds of each, `count` times, one after the other; who goes first changes."""
    took: tuple[list[float], list[float]] = [], []
    for number in range(count):
        order = [(ours, took[0]), (floor, took[1])]
        for work, into in order if number % 2 else reversed(order):
            began = time.perf_counter()
            await work()
            into.append(time.perf_counter() - began)
    return took


async def measure(world: World, quick: bool) -> list[Metric]:
    count = 30 if quick else 200
    async with world.sides() as both:
        key, below = fresh(), fresh("floor")
        for _ in range(5):  # imports, connections, the first sandbox
            await both.turn(key, f"par 3 {TOOL_BYTES}")
            await both.floor.turn(below)
        found = latencies("turn.warm", *await _alternate(both, key, below, "say", (1,), count), WARM_GOAL)
        found += latencies("turn.new", *await _new(both, count // 2), NEW_GOAL)
        several = count // 2
        side_by_side = await _alternate(both, key, below, f"par 3 {TOOL_BYTES}", (1, 3, 1), several)
        found += latencies("turn.3_parallel_tools", *side_by_side)
        one_by_one = await _alternate(both, key, below, f"seq 3 {TOOL_BYTES}", (1,) * 7, several)
        return [*found, *latencies("turn.3_sequential_tools", *one_by_one), *await _streaming(both, count // 4)]


async def _alternate(
    both: Sides, key: str, below: str, text: str, stages: tuple[int, ...], count: int
) -> tuple[list[float], list[float]]:
    return await in_turn(lambda: both.turn(key, text), lambda: both.floor.turn(below, stages), count)


async def _new(both: Sides, count: int) -> tuple[list[float], list[float]]:
    return await in_turn(lambda: both.turn(fresh()), lambda: both.floor.turn(fresh("floor")), count)


async def _streaming(both: Sides, count: int) -> list[Metric]:
    """Tokens carry the model's clock; a watcher in another process reads the same one."""
    key, delays, ready = fresh(), list[float](), asyncio.Event()
    await both.turn(key)

    async def listen() -> None:
        step = ""
        async for event in both.client.events(key, ready):
            if event.kind == "delta" and event.turn != step:
                step = event.turn
                delays.append((time.monotonic_ns() - int(event.text)) / 1e6)

    listener = asyncio.create_task(listen())
    await ready.wait()
    for _ in range(count):
        await both.turn(key, "stream 5")
    await asyncio.sleep(0.2)
    listener.cancel()
    return [
        Metric("turn.first_token_delay.p50", median(delays), "ms", goal=STREAM_GOAL_MS),
        Metric("turn.first_token_delay.p95", percentile(delays, 95), "ms"),
    ]

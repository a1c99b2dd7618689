"""From SIGKILL of the worker that holds a running tool to the turn's next event, and to its reply; another
worker stands ready. There is no floor: the numbers are those of heartbeat and retry settings."""

import asyncio
import os
import signal
import time
from pathlib import Path

from bench.numbers import Metric, median
from bench.processes import find
from bench.world import OURS, Sides, World, fresh

GOAL_S = 6.0
WAIT_S = 60.0


async def measure(world: World, quick: bool) -> list[Metric]:
    event, reply = list[float](), list[float]()
    for _ in range(2 if quick else 6):
        async with world.sides(ours=2, floors=0) as both:
            await asyncio.gather(*(both.turn(fresh()) for _ in range(6)))  # both know the way
            for into, took in zip((event, reply), await _kill_in_mid_tool(world, both), strict=True):
                into.append(took)
    return [
        Metric("recovery.next_event.p50", median(event), "s", goal=GOAL_S),
        Metric("recovery.next_event.worst", max(event), "s", goal=GOAL_S),
        Metric("recovery.reply.p50", median(reply), "s", goal=GOAL_S),
    ]


async def _kill_in_mid_tool(world: World, both: Sides) -> tuple[float, float]:
    key, held = fresh("hold"), world.folder / "held"
    held.unlink(missing_ok=True)
    turn = asyncio.create_task(both.turn(key, "hold"))
    pid = await _holder(held)
    await asyncio.sleep(1.5)  # heartbeats have begun
    transcript = world.volume.path_of(key) / "history.jsonl"
    size = transcript.stat().st_size
    assert pid in find(OURS)
    os.kill(pid, signal.SIGKILL)
    began = time.perf_counter()
    async with asyncio.timeout(WAIT_S):
        while transcript.stat().st_size == size:
            await asyncio.sleep(0.005)
        seen = time.perf_counter() - began
        await turn
    return seen, time.perf_counter() - began


async def _holder(held: Path) -> int:
    async with asyncio.timeout(WAIT_S):
        while True:
            if held.exists() and (text := held.read_text()):
                return int(text)
            await asyncio.sleep(0.01)

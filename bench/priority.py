"""A person's turn while 200 heartbeat turns are queued. Heartbeats of one place coalesce, and one session holds
64 at most, so they go to 200 sessions of the same workers: the queue that stands is the task queue.

The floor is a person's turn of the floor behind 200 of the floor's turns, which all have the same rank.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from agent_session.domain.messages import HEARTBEAT
from bench.numbers import Metric, median
from bench.world import World, fresh

BEATS = 200
HEAD_START_S = 0.3  #: by then they stand in the queue

Turn = Callable[[], Awaitable[Any]]


async def measure(world: World, quick: bool) -> list[Metric]:
    quiet, busy, floor = list[float](), list[float](), list[float]()
    async with world.sides() as both:
        person, below = fresh("person"), fresh("floor")
        rooms = [fresh("room") for _ in range(BEATS)]

        def beat(room: str) -> Awaitable[Any]:
            return both.client.ask(room, "say", kind=HEARTBEAT)

        def below_beat(room: str) -> Awaitable[Any]:
            return both.floor.turn(f"floor-{room}")

        await both.turn(person)
        await both.floor.turn(below)
        for _ in range(1 if quick else 4):
            quiet += [await _timed(lambda: both.turn(person)) for _ in range(10)]
            busy.append(await _behind(beat, rooms, lambda: both.turn(person)))
            floor.append(await _behind(below_beat, rooms, lambda: both.floor.turn(below)))
    return [
        Metric("priority.person_alone", median(quiet) * 1e3, "ms"),
        Metric(f"priority.person_behind_{BEATS}_heartbeats", median(busy) * 1e3, "ms", median(floor) * 1e3),
    ]


async def _all(work: Callable[[str], Awaitable[Any]], keys: list[str]) -> None:
    await asyncio.gather(*(work(key) for key in keys))


async def _behind(beat: Callable[[str], Awaitable[Any]], rooms: list[str], turn: Turn) -> float:
    waiting = asyncio.create_task(_all(beat, rooms))
    await asyncio.sleep(HEAD_START_S)
    took = await _timed(turn)
    await waiting
    return took


async def _timed(turn: Turn) -> float:
    began = time.perf_counter()
    await turn()
    return time.perf_counter() - began

"""One turn with 100 and with 1,000 model calls, each followed by a tool that returns 5 KB, over a conversation
of 209k tokens: what ends an agent whose conversation passes through the event history (temporalio/sdk-python
#1890: 50 MB after 53 calls). Event history of all runs, and time per step at the start and at the end."""

import time
from datetime import datetime
from itertools import pairwise

from agent_session.domain.ids import workflow_id
from agent_session.transcript.lines import ASSISTANT
from agent_session.transcript.reader import CHARS_PER_TOKEN, backwards, tokens_of, window
from bench.history import whole_history
from bench.lines import write_transcript
from bench.numbers import Metric, median
from bench.world import Sides, World, fresh

TALK_TOKENS, OUTPUT_BYTES = 209_000, 5 * 1024
CONTEXT_TOKENS = 400_000  #: room for the talk, and for 150 outputs more
BYTES_GOAL = 512 * 1024
OVERHEAD = 1.25  #: of a transcript's bytes over its tokens' characters, about
GROWTH_GOAL = 1.25  #: of the last steps over the first ones: the window is as large there
PER_STEP = (1, 1)  #: the floor's activities of one step, one after the other


async def measure(world: World, quick: bool) -> list[Metric]:
    limits = {"MODEL__MAX_STEPS": "1000", "MODEL__CONTEXT_TOKENS": str(CONTEXT_TOKENS)}
    found: list[Metric] = []
    async with world.sides(**limits) as both:
        await both.turn(fresh(), "par 3 10")
        for calls in (100,) if quick else (100, 1_000):
            found += await _one(world, both, calls)
    return found


async def _floor_step_s(both: Sides, steps: int) -> float:
    key = fresh("floor")
    await both.floor.turn(key)
    began = time.perf_counter()
    await both.floor.turn(key, PER_STEP * steps)
    return (time.perf_counter() - began) / steps


async def _one(world: World, both: Sides, calls: int) -> list[Metric]:
    key = fresh("long")
    write_transcript(world.volume, key, int(TALK_TOKENS * CHARS_PER_TOKEN * OVERHEAD))
    tokens = sum(tokens_of(line) for line in backwards(world.volume, key))
    floors = [await _floor_step_s(both, 30)]
    await both.turn(key, f"seq {calls - 1} {OUTPUT_BYTES}", timeout_s=1_800)
    floors.append(await _floor_step_s(both, 30))
    events, runs = await whole_history(world, workflow_id(key))
    size = sum(one.ByteSize() for one in events)
    steps, part = _step_seconds(world, key), calls // 10
    assert len(steps) == calls - 1, f"{len(steps) + 1} of {calls} model calls"
    first, last = median(steps[:part]) * 1e3, median(steps[-part:]) * 1e3
    began = time.perf_counter()
    window(world.volume, key, CONTEXT_TOKENS, "")
    read_ms = (time.perf_counter() - began) * 1e3
    name, note = (
        f"long_turn.{calls}_calls",
        f"{tokens // 1000}k tokens of conversation, {runs} run(s), {len(events)} events",
    )
    grows = f"of which reading the context window takes {read_ms:.0f} ms at the end"
    return [
        Metric(f"{name}.history", size / 1024, "KB", goal=BYTES_GOAL / 1024 * max(1, calls / 100), note=note),
        Metric(f"{name}.first_steps", first, "ms", floors[0] * 1e3),
        Metric(f"{name}.last_steps", last, "ms", floors[1] * 1e3, note=grows),
        Metric(f"{name}.growth", last / first, "x", floors[1] / floors[0], goal=GROWTH_GOAL),
        Metric(f"{name}.runs", runs, ""),
    ]


def _step_seconds(world: World, key: str) -> list[float]:
    """From answer to answer of the last turn, as the transcript tells them."""
    times: list[datetime] = []
    turn = ""
    for line in backwards(world.volume, key):
        turn = turn or str(line["turn"])
        if line["turn"] != turn:
            break
        if line["role"] == ASSISTANT:
            times.append(datetime.fromisoformat(str(line["at"])))
    return [(later - earlier).total_seconds() for later, earlier in pairwise(times)][::-1]

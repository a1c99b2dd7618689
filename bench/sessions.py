"""What sessions cost that do nothing: a worker's memory for each one it keeps in its cache, and the CPU time
of worker and server while thousands are idle."""

import asyncio

from bench.numbers import Metric
from bench.processes import cpu_s, rss_bytes
from bench.throughput import Turn
from bench.world import World, fresh

GOAL_KB = 60.0
TOGETHER = 40  #: sessions that are opened at a time
FLOOR_SESSIONS = 200
IDLE_GOAL_PERCENT = 2.0  #: "next to nothing", of one CPU


async def measure(world: World, quick: bool) -> list[Metric]:
    sizes, window_s = ((100, 200), 5) if quick else ((100, 1_000, 5_000), 60)
    found: list[Metric] = []
    async with world.sides(WORKER__CACHED_SESSIONS="10000") as both:
        await _open(both.turn, 20, "s")  # what the first ones bring in is not theirs
        await _open(both.floor.turn, 20, "floor")
        worker, below = both.workers[0].pid, both.floor_workers[0].pid
        floor_before = rss_bytes(below)
        await _open(both.floor.turn, FLOOR_SESSIONS, "floor")
        floor_kb = (rss_bytes(below) - floor_before) / FLOOR_SESSIONS / 1024
        before, opened = rss_bytes(worker), 0
        for size in sizes:
            await _open(both.turn, size - opened, "s")
            opened = size
            each = (rss_bytes(worker) - before) / size / 1024
            note = f"{rss_bytes(worker) / 2**20:.0f} MB in all, {before / 2**20:.0f} MB without sessions"
            found.append(
                Metric(
                    f"sessions.memory_{size}", each, "KB/session", floor_kb, goal=GOAL_KB, goal_of="value", note=note
                )
            )
        return found + await _idle(world, worker, opened, window_s)


async def _open(turn: Turn, count: int, name: str) -> None:
    """Sessions with one turn each."""
    keys = iter([fresh(name) for _ in range(count)])

    async def some() -> None:
        for key in keys:
            await turn(key)

    await asyncio.gather(*(some() for _ in range(TOGETHER)))
    await asyncio.sleep(1)


async def _idle(world: World, worker: int, sessions: int, window_s: int) -> list[Metric]:
    await asyncio.sleep(3)  # sticky queues and the last turns settle
    pids = {"worker": worker, "server": world.server_pid}
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    await asyncio.sleep(window_s)
    used = {name: (cpu_s(pid) - before[name]) / window_s * 100 for name, pid in pids.items()}
    return [
        Metric(f"sessions.idle_{sessions}.worker_cpu", used["worker"], "% of a CPU", goal=IDLE_GOAL_PERCENT,
               note=f"over {window_s} s"),
        Metric(f"sessions.idle_{sessions}.server_cpu", used["server"], "% of a CPU",
               note="with nothing to do the dev server takes its polls' share, too"),
    ]  # fmt: skip

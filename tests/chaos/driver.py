"""One run: the world, the senders, the faults, then quiet, and the evidence of what is left.

Must not judge: `checker.py` reads the evidence.
"""

import asyncio
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from temporalio.api.history.v1 import History

from agent_session.domain.ids import workflow_id
from tests.chaos.faults import Faults
from tests.chaos.over_slack import OverSlack
from tests.chaos.plan import Plan, Said
from tests.chaos.senders import Senders
from tests.chaos.world import CANARY, GATEWAY_TOKEN, World, clock_ahead_s

QUIET_S = 120.0  #: after the last fault, something must be answered within that time, until all is
IDLE_S = 60.0
CLOCK_S = 0.2  #: by which the clocks of Temporal and of the evidence may drift apart


@dataclass(frozen=True)
class Shape:
    """How a run is set up, beside its plan."""

    workers: int = 3
    model_rate: float = 0.03


async def run_plan(plan: Plan, shape: Shape, folder: Path, say: Callable[[str], None]) -> None:
    """Run it; the folder holds the evidence afterwards."""
    async with (
        OverSlack(plan.sessions) as slack,
        World(folder, workers=shape.workers, seed=plan.seed, rate=shape.model_rate, **slack.environment()) as world,
    ):
        write_plan(world, plan.seed, plan.said)
        await world.start_gateway()
        await world.start_slack()
        world.odd_lives = True
        world.watch_transcripts()
        began = time.monotonic()
        senders, faults = Senders(world, plan.said, slack), Faults(world, plan.faults)
        telling = asyncio.create_task(_tell(say, senders, faults, began))
        sending = asyncio.create_task(senders.run(began))
        try:
            await faults.run(began)
            await _answered(senders, sending)
            last = tuple(_last_word(name, number) for number, name in enumerate(plan.sessions))
            world.evidence.write("last.json", [asdict(one) for one in last])
            later = Senders(world, last, slack)
            await _answered(later, asyncio.create_task(later.run(time.monotonic())))
            await conclude(world, plan.sessions, plan.seed, began, faults.kills, slack.canaries)
            for post in slack.posts():
                world.evidence.note("slack", **post)
        finally:
            sending.cancel()
            telling.cancel()


def write_plan(world: World, seed: int, said: Sequence[Said]) -> None:
    world.evidence.write("plan.json", {"seed": seed, "said": [asdict(one) for one in said]})


async def conclude(
    world: World, sessions: Sequence[str], seed: int, began: float, kills: int, canaries: Sequence[str] = ()
) -> None:
    """Ask the world what it came to, while it still lives."""
    statuses = await _statuses(world, sessions)
    world.evidence.write("status.json", statuses)
    known = {
        "seed": seed,
        "canaries": [CANARY, GATEWAY_TOKEN, *canaries],
        "machine": platform.platform(),
        "mounted": world.mounted,
    }
    known |= {"began": began, "ended": time.monotonic(), "kills": kills, "workers": len(world.workers)}
    known["clock"] = clock_ahead_s()
    if abs(known["clock"] - world.clock_ahead_s) > CLOCK_S:
        raise RuntimeError(
            "the machine's clock was set during the run: Temporal's times cannot be told from the others"
        )
    world.evidence.write("run.json", known)
    await _histories(world, sessions)


async def _tell(say: Callable[[str], None], senders: Senders, faults: Faults, began: float) -> None:
    while True:
        await asyncio.sleep(10)
        say(f"{time.monotonic() - began:5.0f} s: {len(senders.unanswered)} unanswered, {faults.kills} killed")


async def _answered(senders: Senders, task: "asyncio.Task[None]") -> None:
    """Until all is answered, or nothing more has been for a while: that is the checker's to find."""
    before = -1
    while not task.done() and len(senders.unanswered) != before:
        before = len(senders.unanswered)
        await asyncio.wait([task], timeout=QUIET_S)
    if task.done():
        task.result()
    task.cancel()


def _last_word(session: str, number: int) -> Said:
    """A session that recovered must take what comes later."""
    identifier = f"m-{number:04}-last"
    return Said(identifier, session, "a", 1_000_000, 0.0, "followup", f"{identifier} say", "say")


async def _statuses(world: World, sessions: Sequence[str]) -> dict[str, Any]:
    """What each session says of itself, once it is idle; after a minute, whatever it says."""
    client = await world.client("chaos-look")
    found: dict[str, Any] = {}
    for name in sessions:
        deadline = time.monotonic() + IDLE_S
        while True:
            try:
                status = await client.status(name)
                found[name] = asdict(status)
                if status.state == "idle" and not status.queue and not status.deliveries:
                    break
            except Exception as error:
                found[name] = {"state": f"{type(error).__name__}: {error}"}
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
    return found


async def _histories(world: World, sessions: Sequence[str]) -> None:
    """Every event of every run of every session, as Temporal stores it, payloads in clear."""
    client = await world.client("chaos-look")
    for name in sessions:
        query = f"WorkflowId = '{workflow_id(name)}'"
        async for found in client.temporal.list_workflows(query):
            handle = client.temporal.get_workflow_handle(found.id, run_id=found.run_id)
            history = History(events=[event async for event in handle.fetch_history_events()])
            (world.folder / "histories" / f"{name}-{found.run_id}.bin").write_bytes(history.SerializeToString())

"""One run: the world, the senders, the faults, then quiet, and the evidence of what is left.

Must not judge: `checker.py` reads the evidence.
"""

import asyncio
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent_session.domain.ids import workflow_id
from tests.chaos.evidence import Evidence
from tests.chaos.faults import Faults
from tests.chaos.plan import Plan, Said
from tests.chaos.senders import Senders
from tests.chaos.world import CANARY, World

QUIET_S = 150.0  #: after the last fault, everything must be answered by then
IDLE_S = 60.0


@dataclass(frozen=True)
class Shape:
    """How a run is set up, beside its plan."""

    workers: int = 3
    model_rate: float = 0.03


async def run_plan(plan: Plan, shape: Shape, folder: Path, say: Callable[[str], None]) -> None:
    """Run it; the folder holds the evidence afterwards."""
    evidence = Evidence(folder)
    evidence.write(
        "plan.json", {"seed": plan.seed, "seconds": plan.seconds, "said": [asdict(one) for one in plan.said]}
    )
    async with World(folder, workers=shape.workers, seed=plan.seed, rate=shape.model_rate) as world:
        world.odd_lives = True
        world.watch_transcripts()
        began = time.monotonic()
        senders, faults = Senders(world, plan.said), Faults(world, plan.faults)
        telling = asyncio.create_task(_tell(say, senders, faults, began))
        sending = asyncio.create_task(senders.run(began))
        try:
            await faults.run(began)
            quiet = time.monotonic()
            await _within(QUIET_S, sending)
            last = tuple(_last_word(name, number) for number, name in enumerate(plan.sessions))
            evidence.write("last.json", [asdict(one) for one in last])
            await _within(QUIET_S, asyncio.create_task(Senders(world, last).run(time.monotonic())))
            statuses = await _statuses(world, plan.sessions)
        finally:
            sending.cancel()
            telling.cancel()
        ended = time.monotonic()
        evidence.write("status.json", statuses)
        await _histories(world, plan.sessions)
    known = {"began": began, "quiet": quiet, "ended": ended, "kills": faults.kills, "mounted": world.mounted}
    evidence.write(
        "run.json",
        {"seed": plan.seed, "canaries": [CANARY], "machine": platform.platform(), "shape": asdict(shape), **known},
    )
    evidence.close()


async def _tell(say: Callable[[str], None], senders: Senders, faults: Faults, began: float) -> None:
    while True:
        await asyncio.sleep(10)
        say(f"{time.monotonic() - began:5.0f} s: {len(senders.unanswered)} unanswered, {faults.kills} killed")


async def _within(seconds: float, task: "asyncio.Task[None]") -> None:
    """What is unanswered by then is the checker's to find."""
    try:
        await asyncio.wait_for(task, seconds)
    except TimeoutError:
        pass


def _last_word(session: str, number: int) -> Said:
    """A session that recovered must take what comes later."""
    identifier = f"m-{number:04}-last"
    return Said(identifier, session, "a", 1_000_000, 0.0, "followup", f"{identifier} say", "say")


async def _statuses(world: World, sessions: tuple[str, ...]) -> dict[str, Any]:
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


async def _histories(world: World, sessions: tuple[str, ...]) -> None:
    """Every event of every run of every session, as Temporal stores it, payloads in clear."""
    client = await world.client("chaos-look")
    for name in sessions:
        query = f"WorkflowId = '{workflow_id(name)}'"
        async for found in client.temporal.list_workflows(query):
            handle = client.temporal.get_workflow_handle(found.id, run_id=found.run_id)
            events = [event.SerializeToString() async for event in handle.fetch_history_events()]
            (world.folder / "histories" / f"{name}-{found.run_id}.bin").write_bytes(b"".join(events))

"""What a turn costs Temporal: events and bytes of history, and actions as Temporal Cloud bills them, early and
late in a session's life, with short and long transcripts, with a reply that is delivered, and what a roll-over adds.

Actions are counted from the history (start, which a continue-as-new is, too; signal, update, activity, timer, search
attributes; a signal-with-start counts for one each time it signals), heartbeats and queries from the server's
own request counters, as they leave no event.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from temporalio.api.enums.v1 import EventType

from agent_session.domain.ids import workflow_id
from bench.lines import write_transcript
from bench.numbers import Metric
from bench.world import Sides, World, fresh

MB = 1 << 20
EVENTS_GOAL, BYTES_GOAL = 16, 3 * 1024
DELIVERY_EVENTS = 6  #: more, for a turn whose reply is delivered
TOOLS = "par 3 100"
ACTIONS = (
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
    EventType.EVENT_TYPE_TIMER_STARTED,
    EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
)
COUNTED_S = 1.5  #: the server's counters are written once a second
SAMPLES, FLOOR_SAMPLES = 3, 11
WAIT_S = 60.0
BEAT, QUERY = "RecordActivityTaskHeartbeat", "QueryWorkflow"


@dataclass(frozen=True)
class Cost:
    events: int = 0
    bytes: int = 0
    actions: int = 0


async def whole_history(world: World, workflow: str) -> tuple[list[Any], int]:
    """The events of all runs of its chain, oldest run first, and how many runs."""
    found = [one async for one in world.temporal.list_workflows(f"WorkflowId = '{workflow}'")]
    events: list[Any] = []
    for one in sorted(found, key=lambda one: one.start_time):
        handle = world.temporal.get_workflow_handle(workflow, run_id=one.run_id)
        events += [event async for event in handle.fetch_history_events()]
    return events, len(found)


async def _newest_run(world: World, workflow: str) -> tuple[str, list[Any]]:
    """Read by id, not by listing: the list lags behind."""
    run = (await world.temporal.get_workflow_handle(workflow).describe()).run_id
    handle = world.temporal.get_workflow_handle(workflow, run_id=run)
    return run, [event async for event in handle.fetch_history_events()]


def _cost(events: list[Any], requests: Counter[str]) -> Cost:
    billed = sum(1 for one in events if one.event_type in ACTIONS)
    return Cost(len(events), sum(one.ByteSize() for one in events), billed + requests[BEAT] + requests[QUERY])


async def one_turn(world: World, both: Sides, key: str, text: str, **how: Any) -> Cost:
    """What this turn adds. One that rolls over is measured by the next one."""
    while True:
        run, before = await _newest_run(world, workflow_id(key))
        asked = await world.requests()
        await both.turn(key, text, **how)
        await asyncio.sleep(COUNTED_S)
        spent = await world.requests() - asked
        after, events = await _newest_run(world, workflow_id(key))
        if after == run:
            return _cost(events[len(before) :], spent)


async def first_turn(world: World, both: Sides, size: int) -> Cost:
    """The first one of a session's life, its start with it."""
    key = fresh("history")
    if size:
        write_transcript(world.volume, key, size)
    asked = await world.requests()
    await both.turn(key)
    await asyncio.sleep(COUNTED_S)
    spent = await world.requests() - asked
    return _cost((await _newest_run(world, workflow_id(key)))[1], spent)


async def roll_over(world: World, both: Sides, key: str) -> Cost:
    """What it adds when an idle session continues as new: to the end of the old run, and all that the new one has."""
    old, before = await _newest_run(world, workflow_id(key))
    asked = await world.requests()
    await both.client.roll_over(key)
    async with asyncio.timeout(WAIT_S):
        while (await _newest_run(world, workflow_id(key)))[0] == old:
            await asyncio.sleep(0.1)
    await asyncio.sleep(COUNTED_S)
    spent = await world.requests() - asked
    handle = world.temporal.get_workflow_handle(workflow_id(key), run_id=old)
    ended = [event async for event in handle.fetch_history_events()][len(before) :]
    return _cost([*ended, *(await _newest_run(world, workflow_id(key)))[1]], spent)


def middle(costs: list[Cost]) -> Cost:
    """Of an odd number of samples: whether a signal or an update arrives with a workflow task or makes one of its own
    is a matter of milliseconds."""
    events, sizes, actions = (sorted(getattr(one, name) for one in costs) for name in ("events", "bytes", "actions"))
    return Cost(*(those[len(costs) // 2] for those in (events, sizes, actions)))


async def typical(world: World, both: Sides, key: str, text: str, **how: Any) -> Cost:
    return middle([await one_turn(world, both, key, text, **how) for _ in range(SAMPLES)])


async def _floor(world: World, both: Sides, stages: tuple[int, ...]) -> Cost:
    key, costs = fresh("floor"), list[Cost]()
    await both.floor.turn(key)
    for _ in range(FLOOR_SAMPLES):
        before = len((await _newest_run(world, key))[1])
        await both.floor.turn(key, stages)
        costs.append(_cost((await _newest_run(world, key))[1][before:], Counter()))
    return middle(costs)


async def measure(world: World, quick: bool) -> list[Metric]:
    found: list[Metric] = []
    async with world.sides(role="worker --all-channels") as both:
        floors = {"plain": await _floor(world, both, (1,)), "3_tools": await _floor(world, both, (1, 3, 1))}
        late = 52 if quick else 200
        for size in (0, MB) if quick else (0, MB, 50 * MB):
            key = fresh("history")
            if size:
                write_transcript(world.volume, key, size)
            found += _metrics(
                f"plain.turn_1.{size // MB}_mb", await first_turn(world, both, size), floors["plain"], True
            )
            done = 1
            await both.turn(key)
            for at in (2, late) if quick else (2, 50, late):
                while done < at - 1:
                    await both.turn(key)
                    done += 1
                for kind, text in (("plain", "say"), ("3_tools", TOOLS)):
                    cost = await typical(world, both, key, text)
                    found += _metrics(f"{kind}.turn_{at}.{size // MB}_mb", cost, floors[kind], kind == "plain")
                done += 2 * SAMPLES
        found += await _of_a_delivery_and_a_roll_over(world, both)
    return found


async def _of_a_delivery_and_a_roll_over(world: World, both: Sides) -> list[Metric]:
    key = fresh("history")
    await both.turn(key)
    cost = await typical(world, both, key, "say", reply_address=f"file:{key}")
    turned = await roll_over(world, both, key)
    return [
        Metric("history.delivered.events", cost.events, "", goal=EVENTS_GOAL + DELIVERY_EVENTS),
        Metric("history.delivered.bytes", cost.bytes, "B"),
        Metric("history.delivered.actions", cost.actions, ""),
        Metric("history.roll_over.events", turned.events, "", note="once in 50 turns"),
        Metric("history.roll_over.bytes", turned.bytes, "B"),
        Metric("history.roll_over.actions", turned.actions, ""),
    ]


def _metrics(name: str, cost: Cost, floor: Cost, goals: bool) -> list[Metric]:
    events, size = (EVENTS_GOAL, BYTES_GOAL) if goals else (None, None)
    return [
        Metric(f"history.{name}.events", cost.events, "", floor.events, goal=events, goal_of="value"),
        Metric(f"history.{name}.bytes", cost.bytes, "B", floor.bytes, goal=size, goal_of="value"),
        Metric(f"history.{name}.actions", cost.actions, "", floor.actions),
    ]

"""What turns and sessions cost Temporal and the worker: events, bytes, billed actions, the server's writes to its
database, the time inside and outside a slot, CPU, roll-overs, idleness."""

import asyncio
import time
import urllib.request
from collections import Counter

from temporalio.api.enums.v1 import EventType

from agent_session.domain.ids import workflow_id
from bench.history import BEAT, QUERY, typical, whole_history
from bench.processes import cpu_s
from bench.scale.draws import Quantiles
from bench.scale.figures import Figure, rounded
from bench.world import Sides, World, fresh

Measured = tuple[dict[str, Figure], dict[str, tuple[float, ...]]]
#: what a turn is told to do, and what it then consists of
KINDS = {"plain": "say", "three_tools_in_one_round": "par 3 100", "three_rounds_of_one_tool": "seq 3 100"}
LONG_S = 10  #: of a model step, to count its heartbeats
WARM_TURNS, TURNS_A_RUN = 100, 50
COUNTED_S = 1.5  #: the server's counters are written once a second
WRITES = (
    "UpdateWorkflowExecution",
    "CreateWorkflowExecution",
    "ConflictResolveWorkflowExecution",
    "AppendHistoryNodes",
)
STARTED = EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
COMPLETED = EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED


async def temporal(world: World) -> Measured:
    """Events, bytes and actions of each kind of turn; heartbeats by the second; database writes; a whole run."""
    found: dict[str, Figure] = {}
    async with world.sides(floors=0) as both:
        key = fresh("scale")
        await both.turn(key)
        for kind, text in KINDS.items():
            cost = await typical(world, both, key, text)
            for name, value in (("events", cost.events), ("bytes", cost.bytes), ("actions", cost.actions)):
                found[f"{kind}.{name}"] = Figure(value, name, "event history and request counters of one turn")
            found[f"{kind}.writes"] = await _writes(world, both, key, text)
        found["heartbeat.writes"] = await _heartbeat_writes(world, both, key, found["plain.writes"])
        found |= await _waiting(world, both, key)
        found |= await _whole_run(world, both)
    return found, {}


async def _writes(world: World, both: Sides, key: str, text: str, turns: int = 5) -> Figure:
    """Transactions of the history service on its database; those of other turns in these seconds: none."""
    before = await _persistence(world)
    for _ in range(turns):
        await both.turn(key, text)
    spent = await _persistence(world) - before
    total = sum(spent[name] for name in WRITES) / turns
    return Figure(rounded(total), "writes", f"the server's persistence_requests, mean of {turns} turns")


async def _heartbeat_writes(world: World, both: Sides, key: str, plain: Figure) -> Figure:
    """Of one heartbeat: what a long model step writes beyond a short one, by the heartbeats in it."""
    before = (await world.requests())[BEAT]
    long = await _writes(world, both, key, f"think {LONG_S * 1000}", 1)
    beats = (await world.requests())[BEAT] - before
    how = f"persistence_requests of a model step of {LONG_S} s beside one of 0 s, by its {beats} heartbeats"
    return Figure(rounded(max(0.0, long.value - plain.value) / beats), "writes", how)


async def _persistence(world: World) -> Counter[str]:
    await asyncio.sleep(COUNTED_S)
    port = world._metrics_port  # pyright: ignore[reportPrivateUsage]  # the world itself counts its front end's only
    url = f"http://127.0.0.1:{port}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if line.startswith("persistence_requests{") and 'service_name="history"' in line:
            operation = line.partition('operation="')[2].partition('"')[0]
            found[operation] += int(float(line.rpartition(" ")[2]))
    return found


async def _waiting(world: World, both: Sides, key: str) -> dict[str, Figure]:
    """What a step asks of Temporal while its model thinks: the worker reports, a client that waits asks now and
    then whether the session has an answer that stands in no transcript."""
    spent: dict[str, Counter[str]] = {}
    for text in ("say", f"think {LONG_S * 1000}"):
        await asyncio.sleep(COUNTED_S)
        before = await world.requests()
        await both.turn(key, text)
        await asyncio.sleep(COUNTED_S)
        spent[text] = await world.requests() - before
    short, long = spent.values()
    how = f"request counters, a model step of {LONG_S} s beside one of 0 s"
    return {
        "heartbeats_per_s": Figure(rounded((long[BEAT] - short[BEAT]) / LONG_S), "actions/s", how),
        "waiting.queries": Figure(long[QUERY] - short[QUERY], "actions", how + ", one client waiting"),
    }


async def _whole_run(world: World, both: Sides) -> dict[str, Figure]:
    """From a session's first turn over its first roll-over: what a run of 50 turns leaves behind."""
    key = fresh("run")
    for _ in range(TURNS_A_RUN + 1):
        await both.turn(key)
    await asyncio.sleep(COUNTED_S)
    events, runs = await whole_history(world, workflow_id(key))
    begins = [at for at, one in enumerate(events) if one.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED]
    assert runs == 2, f"{TURNS_A_RUN + 1} turns made {runs} runs"
    first, carried = events[: begins[1]], events[begins[1]]
    how = f"event history of {TURNS_A_RUN} plain turns"
    return {
        "run.bytes": Figure(sum(one.ByteSize() for one in first), "B", how),
        "run.events": Figure(len(first), "events", how),
        "run.carried_bytes": Figure(carried.ByteSize(), "B", "the state that the next run begins with"),
    }


async def times(world: World) -> Measured:
    """A warm plain turn, in its slot and around it; the same where no session is cached."""
    quantiles: dict[str, tuple[float, ...]] = {}
    async with world.sides(floors=0) as both, world.sides(floors=0, WORKER__CACHED_SESSIONS="2") as cold:
        key = fresh("warm")
        for _ in range(5):
            await both.turn(key)
        took, begin = list[float](), len(await slots_held(world, key))
        for _ in range(WARM_TURNS):
            began = time.perf_counter()
            await both.turn(key)
            took.append(time.perf_counter() - began)
        held = (await slots_held(world, key))[begin:]
        quantiles["held"] = Quantiles.of(held).values
        inside = sum(held) / len(held)
        quantiles["around"] = Quantiles.of([max(0.0, one - inside) for one in took]).values
        extra, extra_cpu = await _not_cached(world, both, cold)
    figures = {
        "warm_turn_s": Figure(rounded(sum(took) / len(took)), "s", f"mean of {WARM_TURNS} plain turns, model of 0 ms"),
        "held_s": Figure(rounded(inside), "s", "mean time from an activity's start to its completion, in the history"),
        "cold_s": Figure(rounded(extra), "s", f"turn {TURNS_A_RUN // 2} of a run: not cached less cached, medians"),
        "cold_cpu_s": Figure(rounded(extra_cpu), "s", "the same, CPU time of the worker"),
    }
    return figures, quantiles


async def slots_held(world: World, key: str) -> list[float]:
    """How long each activity of all runs held its slot."""
    events, _ = await whole_history(world, workflow_id(key))
    held, started = list[float](), dict[int, float]()
    for one in events:
        at = one.event_time.ToNanoseconds() / 1e9
        if one.event_type == STARTED:
            started[one.event_id] = at
        elif one.event_type == COMPLETED:
            held.append(at - started.pop(one.activity_task_completed_event_attributes.started_event_id))
    return held


async def _not_cached(world: World, both: Sides, cold: Sides) -> tuple[float, float]:
    """By how much a turn in the middle of a run takes longer, and costs more CPU, when its session is replayed
    first. Four sessions take turns on a worker that caches two, and four on one that caches all; in the same
    minute, medians of the times, means of the CPU."""
    middle = range(TURNS_A_RUN // 2 - 10, TURNS_A_RUN // 2 + 10)
    took: dict[str, list[float]] = {"warm": [], "cold": []}
    used = {"warm": 0.0, "cold": 0.0}
    sides = {"warm": both, "cold": cold}
    keys = {name: [fresh("pair") for _ in range(4)] for name in sides}
    for number in range(middle.stop):
        for name, side in sides.items():
            before = cpu_s(side.workers[0].pid)
            for key in keys[name]:
                began = time.perf_counter()
                await side.turn(key)
                if number in middle:
                    took[name].append(time.perf_counter() - began)
                await asyncio.sleep(0.03)  # what follows the reply is the turn's, too
            used[name] += cpu_s(side.workers[0].pid) - before if number in middle else 0.0
    median = {name: sorted(them)[len(them) // 2] for name, them in took.items()}
    return max(0.0, median["cold"] - median["warm"]), max(0.0, used["cold"] - used["warm"]) / len(took["cold"])


async def cpu(world: World) -> Measured:
    """CPU time of worker and server for each kind of turn, ten sessions at once."""
    found: dict[str, Figure] = {}
    async with world.sides(floors=0) as both:
        keys = [fresh("cpu") for _ in range(10)]
        await asyncio.gather(*(both.turn(key) for key in keys))
        for kind, text in KINDS.items():
            rounds = 20 if kind == "plain" else 8
            pids = {"worker": both.workers[0].pid, "server": world.server_pid}
            before = {name: cpu_s(pid) for name, pid in pids.items()}
            for _ in range(rounds):
                await asyncio.gather(*(both.turn(key, text) for key in keys))
            for name, pid in pids.items():
                each = (cpu_s(pid) - before[name]) / rounds / len(keys)
                found[f"{kind}.{name}_cpu_s"] = Figure(
                    rounded(each), "s", f"mean of {rounds * len(keys)} turns, 10 sessions"
                )
    return found, {}


async def moves(world: World) -> Measured:
    """What it costs to tell an idle session to roll over, as a deploy's drain does."""
    sessions = 100
    async with world.sides(floors=0) as both:
        keys = [fresh("move") for _ in range(sessions)]
        for at in range(0, sessions, 20):
            await asyncio.gather(*(both.turn(key) for key in keys[at : at + 20]))
        runs = {key: await _run_of(world, key) for key in keys}
        await asyncio.sleep(2)
        pids = {"worker": both.workers[0].pid, "server": world.server_pid}
        before, began = {name: cpu_s(pid) for name, pid in pids.items()}, time.perf_counter()
        await asyncio.gather(*(both.client.roll_over(key) for key in keys))
        for key in keys:
            while await _run_of(world, key) == runs[key]:
                await asyncio.sleep(0.01)
        took = time.perf_counter() - began
        used = {name: (cpu_s(pid) - before[name]) / sessions for name, pid in pids.items()}
    how = f"{sessions} idle sessions told at once"
    return {
        "move.worker_cpu_s": Figure(rounded(used["worker"]), "s", how + ", old and new run together"),
        "move.server_cpu_s": Figure(rounded(used["server"]), "s", how + ", the looking included"),
        "move.per_s": Figure(rounded(sessions / took), "sessions/s", how + ", one worker and the server on two CPUs"),
        "move.actions": Figure(2, "actions", "one signal, one continue-as-new"),
    }, {}


async def _run_of(world: World, key: str) -> str | None:
    return (await world.temporal.get_workflow_handle(workflow_id(key)).describe()).run_id


async def idle(world: World) -> Measured:
    """Whatever idle sessions ask of Temporal: actions must be none."""
    sessions, seconds = 100, 20
    async with world.sides(floors=0) as both:
        keys = [fresh("idle") for _ in range(sessions)]
        for at in range(0, sessions, 20):
            await asyncio.gather(*(both.turn(key) for key in keys[at : at + 20]))
        await asyncio.sleep(5)
        before = await world.requests()
        await asyncio.sleep(seconds)
        spent = await world.requests() - before
    polls = sum(count for name, count in spent.items() if name.startswith("Poll"))
    billed = {name: count for name, count in spent.items() if name in (BEAT, QUERY) or "Signal" in name}
    how = f"{sessions} idle sessions for {seconds} s"
    return {
        "idle.actions_per_s": Figure(sum(billed.values()) / seconds, "actions/s", how),
        "idle.polls_per_s": Figure(rounded(polls / seconds), "requests/s", how + ", one worker; not billed"),
    }, {}

"""The killed container: a turn with a slow tool, the container of its worker killed in the middle, the turn ended by
another worker. Each number is measured, each claim checked; what does not hold is an AssertionError.

    python -m tests.containers.bounce [--seconds N] [--json FILE]        IMAGE=… takes an image that is there
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from agent_session.connection import pollers
from agent_session.domain.ids import workflow_id
from agent_session.ops.embedded import EmbeddedTemporal
from deploy.engine import EngineFailed, NoEngine, find_engine
from deploy.image import build
from tests.containers.world import Container, Http, World, world_of
from tests.support import check_transcript

T = TypeVar("T")

TAG = "localhost/agent-session:test"
SESSION = "bounce"
FOUND_S, REPLY_S, BACK_S = 30.0, 60, 30.0
TOLD = "may or may not have taken effect"


@dataclass(frozen=True)
class Record:
    """What happened, for people and for programs. Times in seconds."""

    image: str
    image_mb: float
    plain_turn_s: float  #: before anything was killed
    tool_s: int  #: how long the tool would have taken
    tool_held_by: str  #: as its processes and Temporal say
    ran_before_the_kill_s: float
    exit_code: int  #: of the killed container
    turn_finished_by: str
    lost_s: float  #: from the kill to the answer
    tool_attempts: int
    answer: str
    transcript_lines: int
    calls: int
    results: int
    effects: list[str]  #: what the tool wrote, one line for each thing that it did
    next_turn_s: float
    back_s: float  #: until the killed container, started again, is ready

    def words(self) -> str:
        rows = (
            ("image", f"{self.image}, {self.image_mb:.0f} MB"),
            ("a plain turn", f"{self.plain_turn_s:.2f} s"),
            (f"a tool that takes {self.tool_s} s", f"is with {self.tool_held_by}"),
            ("its container is killed", f"after {self.ran_before_the_kill_s:.1f} s (exit code {self.exit_code})"),
            ("the turn is finished by", f"{self.turn_finished_by} (attempt {self.tool_attempts} of the tool)"),
            ("lost", f"{self.lost_s:.1f} s from the kill to the answer"),
            ("the answer", self.answer),
            ("the transcript", f"{self.transcript_lines} lines; {self.calls} call, {self.results} result"),
            ("what the tool did", f"{', '.join(self.effects)} (not run twice, not gone on)"),
            ("the next turn", f"{self.next_turn_s:.2f} s"),
            ("the killed container", f"ready {self.back_s:.1f} s after it was started again"),
        )
        return "\n".join(f"{label:26}{value}" for label, value in rows)


async def bounce(world: World, client: Client, tool_s: int) -> Record:
    """Errors: AssertionError, TimeoutError, EngineFailed."""
    workers = [await world.worker(number) for number in (1, 2)]
    await world.gateway()
    http = Http(f"http://127.0.0.1:{world.gateway_port}", world.token)
    try:
        await http.until_ready()
        await until(lambda: _poll(world, client, workers), FOUND_S, "both workers poll")
        plain_s, _ = await timed(http.say(SESSION, "remember blue", wait_s=REPLY_S))

        text = f"run echo begun >> effects; sleep {tool_s}; echo done >> effects"
        sent = await http.say(SESSION, text)
        holder = await until(lambda: _holder(workers, tool_s), FOUND_S, "the tool is seen in a worker")
        began = time.monotonic()
        assert await _held_by(client) == holder.name, "Temporal names another worker than the processes do"
        await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began)))

        ran_s, killed = time.monotonic() - began, time.monotonic()
        await asyncio.to_thread(world.engine, "kill", "--signal", "KILL", holder.name)
        status, reply = await http.get(f"/v1/sessions/{SESSION}/messages/{sent['id']}", wait=str(REPLY_S))
        lost_s = time.monotonic() - killed
        assert status == 200, reply
        assert TOLD in reply["text"], reply
        code = holder.state()["exit_code"]
        finisher, attempts = await _finished_by(client)
        assert finisher in {one.name for one in workers} - {holder.name}, finisher

        next_s, effects = await timed(http.say(SESSION, "read effects", wait_s=REPLY_S))
        lines = await _transcript(http)
        calls, results = _calls(lines, reply["turn"])
        await asyncio.to_thread(world.engine, "start", holder.name)
        back_s, _ = await timed(until(lambda: _ready(holder), BACK_S, "the killed container is back"))
    finally:
        await http.close()
    return Record(
        image=world.image, image_mb=world.engine.size_of(world.image) / 1e6, plain_turn_s=plain_s, tool_s=tool_s,
        tool_held_by=holder.name, ran_before_the_kill_s=ran_s, exit_code=code, turn_finished_by=finisher,
        lost_s=lost_s, tool_attempts=attempts, answer=reply["text"].splitlines()[0], transcript_lines=len(lines),
        calls=calls, results=results, effects=_effects(effects["text"]), next_turn_s=next_s, back_s=back_s,
    )  # fmt: skip


async def _poll(world: World, client: Client, workers: list[Container]) -> bool:
    names = await pollers(client, world.task_queue)
    return {one.name for one in workers} <= set(names)


async def _holder(workers: list[Container], tool_s: int) -> Container | None:
    """The worker in whose container the tool's process is."""
    seen = await asyncio.gather(*(asyncio.to_thread(one.runs, f"sleep {tool_s}") for one in workers))
    found = [worker for worker, runs in zip(workers, seen, strict=True) if runs]
    assert len(found) <= 1, "the tool runs twice"
    return found[0] if found else None


async def _ready(container: Container) -> bool:
    try:
        async with aiohttp.request("GET", f"http://127.0.0.1:{container.port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def _held_by(client: Client) -> str:
    """Who has the tool, as Temporal knows it."""
    about = await client.get_workflow_handle(workflow_id(SESSION)).describe()
    pending = about.raw_description.pending_activities
    return next((one.last_worker_identity for one in pending if one.activity_type.name == "execute_tool"), "")


async def _finished_by(client: Client) -> tuple[str, int]:
    """Who took the last step of the turn, and how many attempts its tool had."""
    finisher, attempts, kinds = "", 0, dict[int, str]()
    async for event in client.get_workflow_handle(workflow_id(SESSION)).fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            kinds[event.event_id] = event.activity_task_scheduled_event_attributes.activity_type.name
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started = event.activity_task_started_event_attributes
            finisher = started.identity
            if kinds.get(started.scheduled_event_id) == "execute_tool":
                attempts = started.attempt
    return finisher, attempts


async def _transcript(http: Http) -> list[dict[str, Any]]:
    status, page = await http.get(f"/v1/sessions/{SESSION}/messages", limit="1000")
    assert status == 200, page
    assert not page["more"]
    check_transcript(page["lines"])
    return page["lines"]


def _calls(lines: list[dict[str, Any]], turn: str) -> tuple[int, int]:
    ours = [line for line in lines if line["turn"] == turn]
    calls = [call["id"] for line in ours for call in line.get("tool_calls") or []]
    results = [line["call"] for line in ours if line["role"] == "tool"]
    assert calls == results, f"calls {calls} have results {results}"
    return len(calls), len(results)


def _effects(answer: str) -> list[str]:
    """What the tool wrote; a tool that ran twice, or went on, would have written more."""
    found = [word for word in ("begun", "done") for _ in range(answer.count(word))]
    assert found == ["begun"], answer
    return found


async def timed(work: Coroutine[Any, Any, T]) -> tuple[float, T]:
    began = time.monotonic()
    found = await work
    return time.monotonic() - began, found


async def until(what: Callable[[], Coroutine[Any, Any, T | None]], within_s: float, words: str) -> T:
    """Look at the outside world until it is so. Errors: TimeoutError with `words`."""
    deadline = time.monotonic() + within_s
    while not (found := await what()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within_s:.0f} s: {words}")
        await asyncio.sleep(0.1)
    return found


async def play(tool_s: int) -> Record:
    """From nothing to nothing: the image, Temporal, the containers. Errors: NoEngine, and those of `bounce`."""
    engine = find_engine()
    image = os.environ.get("IMAGE") or await asyncio.to_thread(build, engine, TAG)
    with tempfile.TemporaryDirectory(prefix="agent-session-bounce-") as scratch:
        server = EmbeddedTemporal(None, Path(scratch) / "temporal.log")
        await server.start()
        try:
            async with world_of(engine, image, server.address, Path(scratch)) as world:
                return await bounce(world, await Client.connect(server.address), tool_s)
        finally:
            await server.stop(0)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bounce", description="Kill a worker's container in mid-tool.")
    parser.add_argument("--seconds", type=int, default=20, help="how long the tool would take")
    parser.add_argument("--json", type=Path, help="write the record there, too")
    given = parser.parse_args()
    try:
        record = asyncio.run(play(given.seconds))
    except (NoEngine, EngineFailed, TimeoutError, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(record.words())
    if given.json:
        given.json.write_text(json.dumps(asdict(record), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the Temporal SDK may crash at interpreter exit

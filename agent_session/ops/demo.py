"""The story that `agent-session demo` plays: a turn, a tool, its worker killed, the turn ended all the same.

Everything runs in a folder of its own and in an environment of its own. Each number is measured here,
each claim is checked here; what does not hold ends the story. It prints nothing itself.
"""

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from temporalio.service import RPCError

from agent_session.client import SessionClient, SessionError
from agent_session.connection import Unreachable, pollers, read_service
from agent_session.domain.ids import workflow_id
from agent_session.domain.limits import SIGNAL_BYTES
from agent_session.live.events import TOOL_OUTPUT
from agent_session.ops.child import Child
from agent_session.ops.processes import Process, ancestors, descendants, processes
from agent_session.settings import load_settings
from agent_session.transcript.lines import calls_of
from agent_session.transcript.reader import BadLine

T = TypeVar("T")

SESSION = "demo"
WORKERS = 2
TOOL_S = 8
STEP_S = 30.0  #: how long one step may take; recovery needs about five
STOP_S = 10.0
NOT_OURS = ("AGENT_SESSION_", "TEMPORAL_", "ANTHROPIC_", "OPENAI_", "OTEL_")
TOLD = "may or may not have taken effect"


class DemoFailed(Exception):
    """A step that did not hold; the message says which and why."""


class Show(Protocol):
    """Where the story is told."""

    def begin(self, label: str) -> None: ...

    def end(self, value: str, label: str = "") -> None: ...


@dataclass
class Story:
    """One run: its folder, its words, and who watches."""

    folder: Path
    show: Show
    #: words that must not be found in Temporal, by where they stand; made anew in each run
    words: dict[str, str] = field(default_factory=lambda: {n: secrets.token_hex(8) for n in ("prompt", "call", "out")})
    spoken: str = field(default_factory=lambda: secrets.token_hex(8))  #: said in a short message, which does pass

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"


def own_environment(folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the demo and of all that it starts: nothing of a person's own service, no key."""
    kept = {name: value for name, value in environment.items() if not name.upper().startswith(NOT_OURS)}
    return kept | {
        "AGENT_SESSION_DATA_DIR": str(folder / "data"),
        "AGENT_SESSION_MODEL__NAME": "offline",
        # Unconfined, because its commands are fixed (`cat`, `sleep`, `echo`, below) and a sandbox may be missing.
        "AGENT_SESSION_TOOLS__SHELL__SANDBOX": "none",
        "XDG_CONFIG_HOME": str(folder / "config"),  # Temporal's own profile file lies in the person's
    }


async def play(folder: Path, show: Show) -> None:
    """From nothing to nothing: start a service, tell the story, stop the service. Errors: DemoFailed."""
    story = Story(folder, show)
    log = folder / "up.log"
    show.begin("starting Temporal and two workers")
    began = time.monotonic()
    command = [sys.executable, "-m", "agent_session", "up", "--workers", str(WORKERS)]
    child = await Child.start(command, log, dict(os.environ))
    try:
        client, up = await _ready(story, child, log)
        show.end(_time(time.monotonic() - began))
        await _tell(story, client, up)
        family = [up, *descendants(processes(), up.pid)]
    except BrokenPipeError:
        raise  # nobody reads on: that is no step
    except (RPCError, SessionError, Unreachable, OSError) as error:
        raise DemoFailed(str(error) or type(error).__name__) from error
    finally:
        await child.stop(STOP_S)
    table = processes()
    left = [one for one in family if one.command and table.get(one.pid) == one]
    _must(not left, f"processes were left behind: {', '.join(str(one.pid) for one in left)}")


async def _ready(story: Story, child: Child, log: Path) -> tuple[SessionClient, Process]:
    """A client, and the process `up`, once both workers are there."""
    settings = load_settings({"data_dir": story.data_dir})

    def announced() -> Any:
        words = " ".join(log.read_text(errors="replace").split()[-40:])
        _must(child.alive, f"the service did not start: {words}")
        return read_service(story.data_dir)

    service = await _until(announced, "the service was not ready")
    client = await SessionClient.connect(settings, address=service.address, channel="cli")
    deadline = time.monotonic() + STEP_S
    while len(await pollers(client.temporal, settings.task_queue)) < WORKERS:
        _must(time.monotonic() < deadline, f"{WORKERS} workers were not ready within {STEP_S:.0f} s")
        await asyncio.sleep(0.05)
    return client, processes()[service.pid]


async def _tell(story: Story, client: SessionClient, up: Process) -> None:
    show = story.show
    story.workspace.mkdir()
    (story.workspace / "AGENTS.md").write_text(f"{story.words['prompt']}\n")
    (story.workspace / "numbers").write_text(f"{story.words['out']}\n")

    show.begin("1 a turn")
    began = time.monotonic()
    reply = await client.ask(SESSION, f"remember {story.spoken}", timeout_s=STEP_S)
    _must(reply.ok and story.spoken in reply.text, f"the first turn {reply.outcome}: {reply.text}")
    show.end(_time(time.monotonic() - began))

    show.begin(f"2 a tool that takes {TOOL_S} s")
    client.use_workspace(SESSION, story.workspace)
    message, command, worker = await _start_tool(story, client, up)
    show.end("started")

    show.begin(f"3 kill -9 of its worker (pid {worker.pid})")
    os.kill(worker.pid, signal.SIGKILL)
    killed = time.monotonic()
    show.end("now")

    show.begin("4 another worker takes over")
    reply = await client.await_reply(SESSION, message, timeout_s=STEP_S)
    show.end(f"{_time(time.monotonic() - killed)} later", "4 another worker took over")

    show.begin("5 what the model was told")
    _must(reply.ok and TOLD in reply.text, f"the turn {reply.outcome}, and said: {reply.text[:300]}")
    table = processes()
    _must(table.get(command.pid) != command, f"the command (pid {command.pid}) outlived its worker")
    _must(not (story.workspace / "proof").exists(), "the command went on to its end although it was interrupted")
    show.end(f"“…{TOLD}…”")

    show.begin("6 the next turn")
    began = time.monotonic()
    reply = await client.ask(SESSION, "list", timeout_s=STEP_S)
    _must(reply.ok and "numbers" in reply.text and "proof" not in reply.text, f"the next turn said: {reply.text[:300]}")
    show.end(f"{_time(time.monotonic() - began)}, with a tool")

    show.begin("7 the transcript")
    show.end(_check_transcript(story, client))
    show.begin("8 Temporal's history")
    show.end(await _check_temporal(story, client))
    show.begin("9 prompt, command, output")
    show.end("not in it; short messages and replies are")


async def _start_tool(story: Story, client: SessionClient, up: Process) -> tuple[str, Process, Process]:
    """Send the command, wait until its first output has been seen; it, and the worker that runs it."""
    words = f"cat numbers && sleep {TOOL_S} && echo {story.words['call']} > proof"
    # A short message rides in its signal as it is. This one is longer, so it goes to the volume, and the
    # words of the command can be looked for in Temporal.
    text = f"run {words} # {'-' * SIGNAL_BYTES}"
    ready = asyncio.Event()

    async def seen() -> None:
        async with aclosing(client.events(SESSION, ready)) as events:
            async for event in events:
                if event.kind == TOOL_OUTPUT and story.words["out"] in event.text:
                    return
        raise DemoFailed("the live events ended before the tool had begun")

    watching = asyncio.create_task(seen())
    try:
        async with asyncio.timeout(STEP_S):
            await asyncio.wait({watching, asyncio.create_task(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
            receipt = await client.send(SESSION, text)
            await watching
    except TimeoutError:
        raise DemoFailed(f"the tool did not begin within {STEP_S:.0f} s") from None
    finally:
        watching.cancel()

    def running() -> tuple[Process, Process] | None:
        table = processes()
        for one in descendants(table, up.pid):
            if one.command == f"sleep {TOOL_S}":
                above = (a for a in ancestors(table, one.pid) if _is_worker(a))
                return next(((one, worker) for worker in above), None)
        return None

    command, worker = await _until(running, "the command was not found below a worker")
    return receipt.id, command, worker


def _is_worker(process: Process) -> bool:
    """A worker itself; launchers carry its command line, too."""
    return "agent_session worker" in process.command and "launcher.py" not in process.command


def _check_transcript(story: Story, client: SessionClient) -> str:
    lines: list[dict[str, Any]] = []
    for line in client.history(SESSION):
        if isinstance(line, BadLine):
            raise DemoFailed(f"line {line.number} of the transcript is damaged")
        lines.append(line)
    _must([line["seq"] for line in lines] == list(range(1, len(lines) + 1)), "the transcript's numbers have a gap")
    calls = [call["id"] for line in lines for call in calls_of(line)]
    results = [line["call"] for line in lines if line["role"] == "tool"]
    _must(len(calls) == 2 and sorted(calls) == sorted(results), f"calls {calls} have results {results}")
    _must(story.words["call"] in str(lines), "the transcript does not hold the command")
    return f"{len(lines)} lines, each call has one result"


async def _check_temporal(story: Story, client: SessionClient) -> str:
    handle = client.temporal.get_workflow_handle(workflow_id(SESSION))
    events = [event.SerializeToString() async for event in handle.fetch_history_events()]
    stored = b"".join(events)
    _must(story.spoken.encode() in stored, "the search finds nothing, not even a short message, which does pass")
    found = [name for name, word in story.words.items() if word.encode() in stored]
    _must(not found, f"Temporal's history holds a word of: {', '.join(found)}")
    return f"{len(events)} events, {len(stored) / 1000:.1f} KB"


async def _until(what: Callable[[], T | None], otherwise: str) -> T:
    """Look until it is there. Errors: DemoFailed."""
    deadline = time.monotonic() + STEP_S
    while (found := what()) is None:
        _must(time.monotonic() < deadline, f"{otherwise} within {STEP_S:.0f} s")
        await asyncio.sleep(0.05)
    return found


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DemoFailed(otherwise)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"

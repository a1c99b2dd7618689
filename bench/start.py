"""From the command line to the first useful moment: `--version`, a worker that polls, and `chat` that asks for
the first line, on a data directory that does not exist yet. The floor: an interpreter that does nothing, and
the floor's worker."""

import asyncio
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from agent_session.connection import read_service
from bench.numbers import Metric, median
from bench.world import World, clean_environment

VERSION_GOAL_MS = 150.0
COMMAND = [sys.executable, "-m", "agent_session"]
PROMPT = b"main>"
WAIT_S = 60.0
ENTRY = str(Path(sys.executable).with_name("agent-session"))


async def measure(world: World, quick: bool) -> list[Metric]:
    version, python, ours, floor = list[float](), list[float](), list[float](), list[float]()
    for _ in range(5 if quick else 15):
        version.append(await asyncio.to_thread(_run, [ENTRY, "--version"], world.folder))
        python.append(await asyncio.to_thread(_run, [sys.executable, "-c", "pass"], world.folder))
    for _ in range(2 if quick else 5):
        async with world.sides() as both:
            ours.append(both.workers[0].ready_s)
            floor.append(both.floor_workers[0].ready_s)
    prompts = [
        await asyncio.to_thread(_first_prompt, world.folder, f"chat-{number}") for number in range(1 if quick else 3)
    ]
    return [
        Metric(
            "start.version", median(version) * 1e3, "ms", median(python) * 1e3, goal=VERSION_GOAL_MS, goal_of="value"
        ),
        Metric("start.worker_ready", median(ours), "s", median(floor)),
        Metric("start.chat_to_prompt", median(prompts), "s", note="with Temporal and a worker to start first"),
    ]


def _run(command: list[str], plugins: Path) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=clean_environment(plugins), check=True, capture_output=True)
    return time.perf_counter() - began


def _first_prompt(folder: Path, name: str) -> float:
    """In a terminal of its own; the service that it starts is ended with it."""
    data = folder / name
    main, side = pty.openpty()
    environment = clean_environment(folder) | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [*COMMAND, "chat", "--data-dir", str(data)], stdin=side, stdout=side, stderr=side, env=environment,
        start_new_session=True,
    )  # fmt: skip
    os.close(side)
    try:
        _read_until(main, PROMPT, began + WAIT_S)
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()
        os.close(main)
        service = read_service(data)
        if service is not None:
            _end(service.pid)


def _read_until(terminal: int, wanted: bytes, deadline: float) -> None:
    seen = b""
    while wanted not in seen:
        assert time.perf_counter() < deadline, f"no prompt came: {seen[-500:]!r}"
        if select.select([terminal], [], [], 0.05)[0]:
            seen += os.read(terminal, 4096)


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)

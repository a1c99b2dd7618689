"""What measurements stand on: one embedded server on a SQLite file, one data volume, workers of both kinds
as processes of their own. The client, and the relay of live events, are in this process.

Must not measure anything.
"""

import asyncio
import os
import sys
import tempfile
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from temporalio.client import Client

from agent_session.client import SessionClient
from agent_session.connection import connect
from agent_session.live.hub import LiveHub
from agent_session.ops import embedded
from agent_session.ops.child import Child
from agent_session.settings import Settings, load_settings
from agent_session.transcript.volume import Volume
from bench.floor import FloorClient
from bench.plugin import ENTRY_POINTS, HELD_FILE
from bench.processes import find

ROOT = Path(__file__).parents[1]
READY_S, TURN_S = 120.0, 300.0
OURS, FLOOR = "agent_session worker", "bench.floor"


class Worker:
    """One worker process; `pid` is the worker's own, not its launcher's."""

    def __init__(self, child: Child, pid: int, ready_s: float) -> None:
        self.child, self.pid, self.ready_s = child, pid, ready_s


class Sides:
    """The product and the floor, each with its workers, on task queues of their own."""

    def __init__(self, settings: Settings, client: SessionClient, floor: FloorClient) -> None:
        self.settings, self.client, self.floor = settings, client, floor
        self.workers: list[Worker] = []
        self.floor_workers: list[Worker] = []

    async def turn(self, key: str, text: str = "say", timeout_s: float = TURN_S, **how: Any) -> None:
        """One whole turn of ours. Errors: ReplyPending; AssertionError when it does not end well."""
        reply = await self.client.ask(key, text, timeout_s=timeout_s, **how)
        assert reply.outcome == "answered", f"a turn ended as {reply.outcome}: {reply.text}"


class World:
    """A server and a volume, for one run of the benchmarks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.volume = Volume(self.data_dir)
        self.address = ""
        self.server_pid = 0
        self.temporal: Client
        self._metrics_port = embedded.free_port()
        self._count = 0

    async def client_settings(self, queue: str) -> Settings:
        return load_settings(
            {"data_dir": self.data_dir, "temporal": {"address": self.address}, "task_queue": queue},
            config=self.folder / "none.toml",
        )

    @asynccontextmanager
    async def sides(
        self, *, ours: int = 1, floors: int = 1, role: str = "worker", **settings: str
    ) -> AsyncIterator[Sides]:
        """Workers of both kinds while inside. `role`: the command of ours. `settings` are environment names without
        their prefix."""
        queue = f"q-{uuid.uuid4().hex[:8]}"
        given = await self.client_settings(queue)
        client = SessionClient(await connect(given), given, channel="bench")
        both = Sides(given, client, FloorClient(self.temporal, f"{queue}-floor"))
        async with AsyncExitStack() as stack:
            for _ in range(ours):
                both.workers.append(await self.start_ours(queue, settings, role))
                stack.push_async_callback(both.workers[-1].child.stop, 2.0)
            for _ in range(floors):
                both.floor_workers.append(await self.start_floor(f"{queue}-floor"))
                stack.push_async_callback(both.floor_workers[-1].child.stop, 2.0)
            yield both

    async def start_ours(self, queue: str, settings: dict[str, str], role: str = "worker") -> Worker:
        environment = {
            "AGENT_SESSION_DATA_DIR": str(self.data_dir),
            "AGENT_SESSION_TASK_QUEUE": queue,
            "AGENT_SESSION_TEMPORAL__ADDRESS": self.address,
            "AGENT_SESSION_MODEL__NAME": "bench",
            "AGENT_SESSION_TOOLS__SHELL__SANDBOX": "none",
            HELD_FILE: str(self.folder / "held"),
        } | {f"AGENT_SESSION_{name}": value for name, value in settings.items()}
        return await self._start([sys.executable, "-m", "agent_session", *role.split()], OURS, " polls ", environment)

    async def start_floor(self, queue: str) -> Worker:
        return await self._start([sys.executable, "-m", "bench.floor", self.address, queue], FLOOR, "ready", {})

    async def _start(self, command: list[str], words: str, ready: str, more: dict[str, str]) -> Worker:
        self._count += 1
        log = self.folder / f"worker-{self._count}.log"
        before, began = set(find(words)), time.monotonic()
        child = await Child.start(command, log, clean_environment(self.folder) | more)
        while ready not in (text := log.read_text(errors="replace")):
            assert child.alive, f"a worker did not start: {text}"
            assert time.monotonic() - began < READY_S, f"a worker does not get ready: {text}"
            await asyncio.sleep(0.01)
        took = time.monotonic() - began
        (pid,) = set(find(words)) - before
        return Worker(child, pid, took)

    async def requests(self) -> Counter[str]:
        """What the server's front end has been asked for so far, by operation."""
        url = f"http://127.0.0.1:{self._metrics_port}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())
        found: Counter[str] = Counter()
        for line in text.splitlines():
            if line.startswith("service_requests{") and 'service_name="frontend"' in line:
                operation = line.partition('operation="')[2].partition('"')[0]
                found[operation] += int(float(line.rpartition(" ")[2]))
        return found

    async def start(self, stack: AsyncExitStack) -> None:
        plain, port = embedded.server_command, self._metrics_port
        # the product's own command, and its request counters: heartbeats leave no other trace
        embedded.server_command = lambda *given, **named: [*plain(*given, **named), "--metrics-port", str(port)]
        server = embedded.EmbeddedTemporal(self.folder / "temporal.db", self.folder / "temporal.log")
        try:
            await server.start()
        finally:
            embedded.server_command = plain
        stack.push_async_callback(server.stop)
        self.address = server.address
        (self.server_pid,) = find("server start-dev")
        self.temporal = await Client.connect(self.address)
        self.volume.create()
        hub = LiveHub(self.data_dir)
        await hub.start()
        stack.push_async_callback(hub.stop)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A world that leaves nothing behind."""
    for name in [name for name in os.environ if name.startswith(("AGENT_SESSION_", "TEMPORAL_"))]:
        del os.environ[name]  # somebody's own service must not reach into measurements
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        plugin = folder / "bench_plugin-0.dist-info"
        plugin.mkdir()
        (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-plugin\nVersion: 0\n")
        (plugin / "entry_points.txt").write_text(ENTRY_POINTS)
        async with AsyncExitStack() as stack:
            made = World(folder)
            await made.start(stack)
            yield made


def clean_environment(plugins: Path) -> dict[str, str]:
    """Ours, without keys, and with the folder where the model's entry points are found."""
    secret = ("AGENT_SESSION_", "TEMPORAL_", "ANTHROPIC_", "OPENAI_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(secret)}
    return kept | {"PYTHONPATH": f"{plugins}{os.pathsep}{ROOT}"}


def fresh(name: str = "b") -> str:
    """A session key that nobody has used."""
    return f"{name}-{uuid.uuid4().hex[:10]}"

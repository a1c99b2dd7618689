"""The world of a run: Temporal on a SQLite file, workers, a model server, a small volume; each a real process.

Restarts what dies after a moment, as a supervisor would, and takes everything with it at the end. Must not
decide when something dies: that is `faults.py`. Nothing but pids of its own is ever signalled.
"""

import asyncio
import json
import os
import random
import shutil
import sys
import time
import urllib.request
from pathlib import Path

from agent_session.client import SessionClient
from agent_session.connection import Unreachable
from agent_session.ops.embedded import free_port, is_serving, server_command
from agent_session.settings import load_settings
from tests.chaos.evidence import Evidence
from tests.chaos.process import Process, run

CANARY = "canary-chaos-key"
GATEWAY_TOKEN = "canary-chaos-gateway-token"
VOLUME_MIB = 192
RESTART_S = (0.2, 1.0)
READY_S = 60.0
LIFE = Path(__file__).parent / "life"


class World:
    """Everything that a run needs, started and ended together: `async with World(folder) as world`."""

    def __init__(
        self, folder: Path, *, workers: int = 2, seed: int = 0, rate: float = 0.0, mounted: bool = True, **more: str
    ) -> None:
        self.folder, self.data = folder, folder / "data"
        self.evidence = Evidence(folder)
        self.mounted = mounted and os.geteuid() == 0 and shutil.which("mount") is not None
        self._seed, self._rate, self._more = seed, rate, more
        self._chance = random.Random(seed)
        self.port, self.model_port, self.gateway_port = 0, 0, 0
        self.temporal: Process | None = None
        self.gateway: Process | None = None
        self.slack: Process | None = None  #: the channel's process
        self.model: Process | None = None
        self.workers: list[Process | None] = [None] * workers
        self.lives = 0
        self.worker_lives = [0] * workers  #: of each worker, its present one
        self.odd_lives = False  #: whether some lives of workers have a slow fsync or a clock that is off
        self.clock_ahead_s = clock_ahead_s()
        self._clients: dict[str, SessionClient] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "World":
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in (self.gateway, self.slack, *self.workers, self.model, self.temporal):
            if process is not None:
                process.kill()
        self.evidence.close()
        await asyncio.to_thread(self._keep_volume)

    async def _start(self) -> None:
        self.data.mkdir(mode=0o700)
        if self.mounted:
            run("mount", "-t", "tmpfs", "-o", f"size={VOLUME_MIB}m,mode=0700", "tmpfs", str(self.data))
        self.port, self.model_port, self.gateway_port = free_port(), free_port(), free_port()
        run(sys.executable, "-m", "agent_session", "init", "--data-dir", str(self.data), env=self.environment())
        await self.start_temporal()
        self.model = Process(
            [sys.executable, "-m", "tests.chaos.model_server", "--port", str(self.model_port),
             "--effects", str(self.folder / "effects"), "--log", str(self.folder / "model.jsonl"),
             "--seed", str(self._seed), "--rate", str(self._rate)],
            self.folder / "logs" / "model.log",
        )  # fmt: skip
        await self.start_workers()

    def environment(self, **more: str) -> dict[str, str]:
        """Of workers and commands; nothing of a developer's own service reaches in."""
        ours = ("AGENT_SESSION_", "TEMPORAL_", "ANTHROPIC_", "OPENAI_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {
            **kept,
            "AGENT_SESSION_DATA_DIR": str(self.data),
            "AGENT_SESSION_TEMPORAL__ADDRESS": f"127.0.0.1:{self.port}",
            "AGENT_SESSION_TOOLS__SHELL__SANDBOX": "none",
            "AGENT_SESSION_MODEL__NAME": "openai-chat:chaos",
            "AGENT_SESSION_MODEL__BASE_URL": f"http://127.0.0.1:{self.model_port}/v1",
            "AGENT_SESSION_MODEL__TIMEOUT_S": "20",
            "AGENT_SESSION_SESSION__TURNS_PER_RUN": "20",
            "AGENT_SESSION_GATEWAY__PORT": str(self.gateway_port),
            "AGENT_SESSION_GATEWAY__TOKEN": GATEWAY_TOKEN,
            "OPENAI_API_KEY": CANARY,
            **self._more,
            **more,
        }

    async def client(self, channel: str) -> SessionClient:
        """One a channel; waits while Temporal is away."""
        settings = load_settings(
            {"data_dir": self.data, "temporal": {"address": f"127.0.0.1:{self.port}"}, "task_queue": "agent-session"}
        )
        deadline = time.monotonic() + READY_S
        while channel not in self._clients:
            try:
                self._clients[channel] = await SessionClient.connect(settings, channel=channel)
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)
        return self._clients[channel]

    async def start_temporal(self) -> None:
        """Returns once it serves. The same port and the same SQLite file as before."""
        command = server_command(self.port, self.folder / "temporal.db")
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            self.temporal = Process(command, self.folder / "logs" / "temporal.log")
            while self.temporal.alive and time.monotonic() < deadline:
                if await is_serving(f"127.0.0.1:{self.port}"):
                    return
                await asyncio.sleep(0.05)
        raise TimeoutError("Temporal did not start; see its log")

    async def start_gateway(self) -> None:
        """Returns once it serves."""
        self.gateway = await self._started("gateway", "gateway ready")

    async def start_slack(self) -> None:
        """Returns once it listens and delivers."""
        self.slack = await self._started("slack", "channel slack runs")

    async def _started(self, command: str, ready: str) -> Process:
        """One that does not come up, as on a full volume, is begun again."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            log = self.folder / "logs" / f"{command}.log"
            process = Process([sys.executable, "-m", "agent_session", command], log, self.environment())
            while process.alive and time.monotonic() < deadline:
                if process.said(ready):
                    return process
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.2)
        raise TimeoutError(f"{command} did not start; see its log")

    def start_worker(self, number: int, *, channels: bool = True, fsync_s: float = 0.0) -> None:
        """One more life of that worker; without channels it delivers nothing."""
        self.lives += 1
        self.worker_lives[number] = self.lives
        odd = self._odd() if self.odd_lives else {"slow_fsync": fsync_s} if fsync_s else {}
        life = {"worker": number, "life": self.lives}
        for name, value in odd.items():
            self.evidence.note("faults", kind=name, start=time.monotonic(), end=time.monotonic(), value=value, **life)
        environment = self.environment(AGENT_SESSION_WORKER__IDENTITY=f"worker-{number}.{self.lives}")
        self.workers[number] = Process(
            [sys.executable, "-m", "agent_session", "worker", *(["--all-channels"] if channels else [])],
            self.folder / "logs" / f"worker-{number}.log",
            environment | _environment_of(odd),
        )

    def _odd(self) -> dict[str, float]:
        """What is odd about this life: its fsync is slow, its wall clock is off."""
        found: dict[str, float] = {}
        if self._chance.random() < 0.25:
            found["slow_fsync"] = round(self._chance.uniform(0.02, 0.25), 3)
        if self._chance.random() < 0.25:
            found["clock_skew"] = self._chance.choice((-90.0, -20.0, -5.0, 5.0, 20.0, 90.0))
        return found

    async def worker_ready(self, number: int, timeout_s: float = READY_S) -> None:
        """Waits until it polls; a life that ends before is begun again."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            worker = self.workers[number]
            assert worker is not None
            if not worker.alive:
                await asyncio.sleep(0.5)
                self.start_worker(number)
            elif worker.said(" polls "):
                return
            await asyncio.sleep(0.05)
        raise TimeoutError(f"worker {number} did not come up; see {self.folder / 'logs'}")

    async def restart_worker(self, number: int, pause_s: float | None = None) -> None:
        await asyncio.sleep(self._chance.uniform(*RESTART_S) if pause_s is None else pause_s)
        self.start_worker(number)
        await self.worker_ready(number)

    def kill_everything(self) -> int:
        """Workers and Temporal, as a machine that is switched off; returns how many there were."""
        return sum(process.kill() for process in (*self.workers, self.temporal) if process is not None)

    async def start_everything(self, *, channels: bool = True) -> None:
        await self.start_temporal()
        await self.start_workers(channels=channels)

    async def start_workers(self, *, channels: bool = True, fsync_s: float = 0.0) -> None:
        """All of them; returns once each polls."""
        for number in range(len(self.workers)):
            self.start_worker(number, channels=channels, fsync_s=fsync_s)
        for number in range(len(self.workers)):
            await self.worker_ready(number)

    async def model_fault(self, how: str, length_s: float) -> None:
        body = json.dumps({"how": how, "length_s": length_s}).encode()
        url = f"http://127.0.0.1:{self.model_port}/fault"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=10).close())

    def watch_transcripts(self) -> None:
        """Notes from outside when which transcript and which place grows: workers' own clocks may be off."""
        self._tasks.append(asyncio.create_task(self._watch()))

    async def _watch(self) -> None:
        sizes: dict[Path, int] = {}
        while True:
            for path in (*self.data.glob("sessions/*/*/history.jsonl"), *self.data.glob("channels/file/*.jsonl")):
                try:
                    size = path.stat().st_size
                except OSError:
                    continue
                if size != sizes.get(path):
                    sizes[path] = size
                    is_talk = path.name == "history.jsonl"
                    where = {"session": session_of(path)} if is_talk else {"place": path.stem}
                    self.evidence.note("progress", **where, bytes=size)
            await asyncio.sleep(0.25)

    def transcript(self, session: str) -> Path:
        """Its file, once there is one; else a path that does not exist."""
        return next(self.data.glob(f"sessions/*/{session}-*/history.jsonl"), self.data / "none")

    def _keep_volume(self) -> None:
        copy = self.folder / "volume"
        if self.data.exists() and not copy.exists():
            run("cp", "-a", str(self.data), str(copy))
        if self.mounted and os.path.ismount(self.data):
            run("umount", "-l", str(self.data))
        shutil.rmtree(self.data, ignore_errors=True)


def session_of(path: Path) -> str:
    """Whose transcript that is."""
    return path.parent.name.rpartition("-")[0]


def clock_ahead_s() -> float:
    """By how much Temporal's times are ahead of all others of the evidence."""
    return time.time() - time.monotonic()


def _environment_of(odd: dict[str, float]) -> dict[str, str]:
    found = {"PYTHONPATH": str(LIFE)} if odd else {}
    names = {"slow_fsync": "CHAOS_FSYNC_S", "clock_skew": "CHAOS_SKEW_S"}
    return found | {names[name]: str(value) for name, value in odd.items()}

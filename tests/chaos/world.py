"""The world of a run: Temporal on a SQLite file, workers, a model server, a small volume; each a real process.

Restarts what dies after a moment, as a supervisor would, and takes everything with it at the end. Must not
decide when something dies: that is `faults.py`. Nothing but pids of its own is ever signalled.
"""

import asyncio
import ctypes
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from agent_session.client import SessionClient
from agent_session.ops.embedded import free_port, is_serving, server_command
from agent_session.settings import load_settings
from tests.chaos.evidence import Evidence

CANARY = "canary-chaos-key"
VOLUME_MIB = 192
RESTART_S = (0.2, 1.0)
READY_S = 60.0
SLOW = Path(__file__).parent / "slow"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
PR_SET_PDEATHSIG = 1


class Process:
    """One child, with its output in a log. Dies with us."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.log, self.start = log, log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def said(self, words: str) -> bool:
        with self.log.open("rb") as file:
            file.seek(self.start)
            return words.encode() in file.read()

    def send(self, number: int) -> bool:
        """Whether it was there to get the signal."""
        if self.alive:
            self._popen.send_signal(number)
            return True
        return False

    def kill(self) -> bool:
        there = self.send(signal.SIGKILL)
        self._popen.wait()
        return there


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class World:
    """Everything that a run needs, started and ended together: `async with World(folder) as world`."""

    def __init__(
        self, folder: Path, *, workers: int = 2, seed: int = 0, rate: float = 0.0, mounted: bool = True, **more: str
    ) -> None:
        self.folder, self.data = folder, folder / "data"
        self.evidence = Evidence(folder)
        self.mounted = mounted and os.geteuid() == 0 and shutil.which("mount") is not None
        self._seed, self._rate, self._more, self._count = seed, rate, more, workers
        self._chance = random.Random(seed)
        self.port, self.model_port = 0, 0
        self.temporal: Process | None = None
        self.model: Process | None = None
        self.workers: list[Process | None] = [None] * workers
        self.lives = 0
        self.odd_lives = False  #: whether some lives of workers have a slow fsync or a clock that is off
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
        for process in (*self.workers, self.model, self.temporal):
            if process is not None:
                process.kill()
        self.evidence.close()
        await asyncio.to_thread(self._keep_volume)

    async def _start(self) -> None:
        self.data.mkdir(mode=0o700)
        if self.mounted:
            run("mount", "-t", "tmpfs", "-o", f"size={VOLUME_MIB}m,mode=0700", "tmpfs", str(self.data))
        self.port, self.model_port = free_port(), free_port()
        run(sys.executable, "-m", "agent_session", "init", "--data-dir", str(self.data), env=self.environment())
        await self.start_temporal()
        self.model = Process(
            [sys.executable, "-m", "tests.chaos.model_server", "--port", str(self.model_port),
             "--effects", str(self.folder / "effects"), "--log", str(self.folder / "model.jsonl"),
             "--seed", str(self._seed), "--rate", str(self._rate)],
            self.folder / "logs" / "model.log",
        )  # fmt: skip
        for number in range(self._count):
            self.start_worker(number)
        for number in range(self._count):
            await self.worker_ready(number)

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
            "OPENAI_API_KEY": CANARY,
            **self._more,
            **more,
        }

    async def client(self, channel: str) -> SessionClient:
        settings = load_settings(
            {"data_dir": self.data, "temporal": {"address": f"127.0.0.1:{self.port}"}, "task_queue": "agent-session"}
        )
        return await SessionClient.connect(settings, channel=channel)

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

    def start_worker(self, number: int) -> None:
        self.lives += 1
        odd = self._odd() if self.odd_lives else {}
        life = {"worker": number, "life": self.lives}
        for name, value in odd.items():
            self.evidence.note("faults", kind=name, start=time.monotonic(), end=time.monotonic(), value=value, **life)
        environment = self.environment(AGENT_SESSION_WORKER__IDENTITY=f"worker-{number}.{self.lives}")
        self.workers[number] = Process(
            [sys.executable, "-m", "agent_session", "worker", "--all-channels"],
            self.folder / "logs" / f"worker-{number}.log",
            environment | _environment_of(odd),
        )

    def _odd(self) -> dict[str, float]:
        """What is odd about this life: its fsync is slow, its clock is off (everything but the monotonic one)."""
        found: dict[str, float] = {}
        if self._chance.random() < 0.25:
            found["slow_fsync"] = round(self._chance.uniform(0.02, 0.25), 3)
        if self._chance.random() < 0.25 and FAKETIME.exists():
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

    async def model_fault(self, how: str, length_s: float) -> None:
        body = json.dumps({"how": how, "length_s": length_s}).encode()
        url = f"http://127.0.0.1:{self.model_port}/fault"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        await asyncio.to_thread(lambda: urllib.request.urlopen(request, timeout=10).close())

    def watch_transcripts(self) -> None:
        """Notes from outside when which transcript grows: workers' own clocks may be off."""
        self._tasks.append(asyncio.create_task(self._watch()))

    async def _watch(self) -> None:
        sizes: dict[str, int] = {}
        while True:
            for path in self.data.glob("sessions/*/*/history.jsonl"):
                try:
                    size = path.stat().st_size
                except OSError:
                    continue
                name = path.parent.name.rpartition("-")[0]
                if size != sizes.get(name):
                    sizes[name] = size
                    self.evidence.note("progress", session=name, bytes=size)
            await asyncio.sleep(0.25)

    def transcript(self, session: str) -> Path:
        (found,) = self.data.glob(f"sessions/*/{session}-*/history.jsonl")
        return found

    def _keep_volume(self) -> None:
        copy = self.folder / "volume"
        if self.data.exists() and not copy.exists():
            run("cp", "-a", str(self.data), str(copy))
        if self.mounted and os.path.ismount(self.data):
            run("umount", "-l", str(self.data))
        shutil.rmtree(self.data, ignore_errors=True)


def _environment_of(odd: dict[str, float]) -> dict[str, str]:
    found: dict[str, str] = {}
    if "slow_fsync" in odd:
        found |= {"PYTHONPATH": str(SLOW), "CHAOS_FSYNC_S": str(odd["slow_fsync"])}
    if "clock_skew" in odd:
        # only the wall clock: durations of a real machine with a wrong clock are right
        found |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME": f"{odd['clock_skew']:+g}s", "DONT_FAKE_MONOTONIC": "1"}
    return found


def run(*command: str, env: dict[str, str] | None = None, check: bool = True) -> "subprocess.CompletedProcess[Any]":
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done

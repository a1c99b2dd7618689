"""Real processes of ours with metrics on, on a Temporal server that is there."""

import asyncio
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e.support import COMMAND, clean_environment


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Process:
    """One command of ours that serves health and metrics."""

    def __init__(self, name: str, port: int, process: asyncio.subprocess.Process, errors: Path) -> None:
        self.name, self.port, self.process, self.errors = name, port, process, errors

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            return answer.status, await answer.text()

    async def until_ready(self) -> "Process":
        async with asyncio.timeout(60):
            while True:
                assert self.process.returncode is None, self.errors.read_text()
                try:
                    if (await self.get("/readyz"))[0] == 200:
                        return self
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)

    async def sample(self, name: str, **labels: str) -> float | None:
        """A sample's value; None while there is none."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        for line in (await self.get("/metrics"))[1].splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(one in head for one in wanted):
                return float(value)
        return None

    async def until_sample(self, name: str, least: float, **labels: str) -> float:
        async with asyncio.timeout(30):
            while ((found := await self.sample(name, **labels)) or 0) < least:
                await asyncio.sleep(0.1)
        assert found is not None
        return found

    async def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 20)


class Machine:
    """What processes of one data volume share."""

    def __init__(self, data_dir: Path, address: str, task_queue: str, **environment: str) -> None:
        self.folder = data_dir.parent
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        more = {"TEMPORAL_ADDRESS": "", "TMPDIR": str(temporary)}
        ours = {"AGENT_SESSION_TEMPORAL__ADDRESS": address, "AGENT_SESSION_TASK_QUEUE": task_queue}
        self.environment = {**clean_environment(data_dir), **more, **ours, **environment}
        del self.environment["TEMPORAL_ADDRESS"]
        self.running: list[Process] = []

    async def start(self, *command: str, port: int = 0, **environment: str) -> Process:
        port = port or free_port()
        given = {"AGENT_SESSION_TELEMETRY__LISTEN": f"127.0.0.1:{port}", "AGENT_SESSION_GATEWAY__PORT": str(port)}
        errors = self.folder / f"{'-'.join(command)}-{port}.err"
        with open(errors, "ab") as file:
            process = await asyncio.create_subprocess_exec(
                *COMMAND, *command, env={**self.environment, **given, **environment}, stdout=file, stderr=file
            )
        self.running.append(Process(command[0], port, process, errors))
        return self.running[-1]

    async def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return await asyncio.to_thread(
            subprocess.run, [*COMMAND, *command], env=self.environment, capture_output=True, text=True, timeout=120
        )


@asynccontextmanager
async def machine(data_dir: Path, address: str, task_queue: str, **environment: str) -> AsyncIterator[Machine]:
    made = Machine(data_dir, address, task_queue, **environment)
    try:
        yield made
    finally:
        for one in made.running:
            await one.stop()


def settings_as_environment(settings: Any) -> dict[str, str]:
    """For a `Service` of the fixtures: where it is."""
    return {"data_dir": settings.data_dir, "address": settings.temporal.address, "task_queue": settings.task_queue}

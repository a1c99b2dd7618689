"""A deployment of real processes: workers of two builds, one of them with workflow code that breaks the other's
histories, and the commands of a deploy step."""

import asyncio
import json
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause

from tests.chaos.process import Process
from tests.e2e.support import COMMAND, clean_environment
from tests.support import Service, fresh_key

ROOT = Path(__file__).parents[2]
STEP = '        raw = await self.activity(\n            "llm_chat",'
BREAKING = f"        await asyncio.sleep(0.01)  # a command that the build before did not give\n{STEP}"


def tree_of_another_build(folder: Path) -> Path:
    """Our own code, but its workflow sets a timer before each model step: it cannot replay a history of ours."""
    for package in ("agent_session", "channels"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    turn = folder / "agent_session" / "workflows" / "turn.py"
    source = turn.read_text()
    assert source.count(STEP) == 1, "the step that this test changes has moved: adapt STEP"
    turn.write_text(source.replace(STEP, BREAKING))
    return folder


class Site:
    """Processes beside a service of the test process, on its volume and task queue."""

    def __init__(self, service: Service, logs: Path, **environment: str) -> None:
        self.service, self.logs = service, logs
        self.deployment = fresh_key("d")
        given = {
            "TEMPORAL__ADDRESS": service.settings.temporal.address,
            "TASK_QUEUE": service.settings.task_queue,
            "VOLUME__CATCH_UP_S": "0.5",
            **environment,
        }
        self.environment = clean_environment(
            service.settings.data_dir, **{f"AGENT_SESSION_{name}": value for name, value in given.items()}
        )
        self.processes: list[Process] = []

    def worker(self, build: str, tree: Path = ROOT) -> Process:
        """One more worker of a build; without a build, of no version."""
        named = {"AGENT_SESSION_WORKER__DEPLOYMENT": self.deployment, "AGENT_SESSION_WORKER__BUILD_ID": build}
        return self._start([*COMMAND, "worker"], f"worker-{build}", tree, named if build else {})

    def channel(self, name: str, tree: Path = ROOT) -> Process:
        """The process of a channel, as it is deployed with a build: the same environment."""
        return self._start([*COMMAND, "channels", "run", name], f"channel-{name}", tree, {})

    def _start(self, command: list[str], name: str, tree: Path, more: dict[str, str]) -> Process:
        started = Process(
            ["env", "-C", str(tree), *command], self.logs / f"{name}-{len(self.processes)}.log", self.environment | more
        )
        self.processes.append(started)
        return started

    async def stop(self, *processes: Process) -> None:
        """As a deploy does: asked to end, and given time to."""
        for process in processes:
            process.send(signal.SIGTERM)
        async with asyncio.timeout(30):
            while any(process.alive for process in processes):
                await asyncio.sleep(0.05)

    async def deploy(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`agent-session deploy …`, whatever its exit code."""
        command, *rest = arguments
        return await asyncio.to_thread(
            subprocess.run,
            [*COMMAND, "deploy", command, "--deployment", self.deployment, *rest],
            env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    async def deployed(self, *arguments: str) -> str:
        """The same, and it must have worked."""
        done = await self.deploy(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    async def versions(self) -> dict[str, dict[str, Any]]:
        found = json.loads(await self.deployed("list", "--json"))
        return {one["build"]: one for one in found["versions"]}

    def kill(self) -> None:
        for process in self.processes:
            process.kill()


@asynccontextmanager
async def site_of(service: Service, logs: Path, **environment: str) -> AsyncIterator[Site]:
    """With no process left afterwards."""
    logs.mkdir(exist_ok=True)
    site = Site(service, logs, **environment)
    try:
        yield site
    finally:
        site.kill()


async def builds_of(service: Service, key: str) -> list[str]:
    """The build of each run of a session's chain, oldest first. Every workflow task of a run was done by one build, and
    none failed because code and history did not fit."""
    found: list[str] = []
    for run in await service.runs(key):
        builds: set[str] = set()
        for event in await service.events(key, run):
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                cause = event.workflow_task_failed_event_attributes.cause
                assert cause != WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR, event
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                builds.add(event.workflow_task_completed_event_attributes.deployment_version.build_id)
        assert len(builds) <= 1, f"run {run} of {key} was pinned to one build and had tasks of {builds}"
        found += builds
    return found


async def until_builds(service: Service, key: str, expected: list[str]) -> None:
    """`builds_of`, once the newest run is in Temporal's list and has done its first task."""
    async with asyncio.timeout(30):
        while (found := await builds_of(service, key)) != expected:
            assert found == expected[: len(found)], f"{key} was on {found}, not on {expected}"
            await asyncio.sleep(0.1)

"""A small cluster for tests: one volume, containers of the image with nothing they do not need, Temporal outside.

The containers share the machine's network, so that Temporal can stay on loopback; each listens on ports of its own.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from agent_session.ops.embedded import free_port
from deploy.engine import Engine

#: as the manifests have it: nothing can be written but /data and /tmp, no capability, no way to get one
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
STARTED_S = 60.0
PROCESS = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -q '{0}'"


@dataclass(frozen=True)
class Container:
    """One of ours, by name."""

    name: str
    port: int  #: of its health and metrics
    engine: Engine = field(repr=False)

    def runs(self, words: str) -> bool:
        """Whether a process in it has these words in its command line."""
        look = PROCESS.format(f"[{words[0]}]{words[1:]}")  # so that the look does not find itself
        return self.engine.try_to("exec", self.name, "sh", "-c", look).returncode == 0

    def state(self) -> dict[str, Any]:
        fields = ("Status", "ExitCode", "Pid")
        found = self.engine("inspect", "--format", "|".join(f"{{{{.State.{one}}}}}" for one in fields), self.name)
        status, code, pid = found.split("|")
        return {"status": status, "exit_code": int(code), "pid": int(pid)}

    def logs(self) -> str:
        done = self.engine.try_to("logs", "--tail", "60", self.name)
        return done.stdout + done.stderr


class World:
    """Containers on one volume."""

    def __init__(self, engine: Engine, image: str, temporal: str, folder: Path) -> None:
        self.engine, self.image, self.temporal = engine, image, temporal
        self.name = f"agent-session-test-{secrets.token_hex(4)}"
        self.volume = f"{self.name}-data"
        self.task_queue = self.name
        self.containers: list[Container] = []
        self.token = secrets.token_urlsafe(24)
        self.gateway_port = free_port()
        self._token_file = folder / "token"
        self._token_file.write_text(self.token)
        self._token_file.chmod(0o444)

    def hardened(self) -> list[str]:
        strict = ["--read-only-tmpfs=false"] if self.engine.name == "podman" else []
        return [*HARDENED, *strict, "--network", "host", "--volume", f"{self.volume}:/data"]

    def environment(self, port: int, **more: str) -> list[str]:
        ours = {
            "AGENT_SESSION_TEMPORAL__ADDRESS": self.temporal,
            "AGENT_SESSION_TASK_QUEUE": self.task_queue,
            "AGENT_SESSION_TELEMETRY__LISTEN": f"127.0.0.1:{port}",
            **more,
        }
        return [word for name, value in ours.items() for word in ("--env", f"{name}={value}")]

    async def once(self, *arguments: str) -> str:
        """Run a command of the image to its end. Errors: EngineFailed."""
        environment = self.environment(free_port())
        return await asyncio.to_thread(
            self.engine, "run", "--rm", "--no-healthcheck", *self.hardened(), *environment, self.image, *arguments
        )

    async def start(self, role: str, *arguments: str, **environment: str) -> Container:
        """A container that stays; `role` is its name, too."""
        container = Container(f"{self.name}-{role}", free_port(), self.engine)
        self.containers.append(container)
        await asyncio.to_thread(
            self.engine, "run", "--detach", "--name", container.name, *self.hardened(),
            *self.environment(container.port, **environment), self.image, *arguments,
        )  # fmt: skip
        return container

    async def worker(self, number: int) -> Container:
        return await self.start(
            f"worker-{number}", "worker", "--all-channels",
            AGENT_SESSION_WORKER__IDENTITY=f"{self.name}-worker-{number}",
            # unconfined, because its commands are fixed and the container is all that they can reach
            AGENT_SESSION_TOOLS__SHELL__SANDBOX="none",
        )  # fmt: skip

    async def gateway(self) -> Container:
        target = "/run/secrets/AGENT_SESSION_GATEWAY__TOKEN"
        container = Container(f"{self.name}-gateway", free_port(), self.engine)
        self.containers.append(container)
        environment = self.environment(
            container.port, AGENT_SESSION_GATEWAY__HOST="127.0.0.1", AGENT_SESSION_GATEWAY__PORT=str(self.gateway_port)
        )
        await asyncio.to_thread(
            self.engine, "run", "--detach", "--name", container.name, *self.hardened(),
            "--volume", f"{self._token_file}:{target}:ro", *environment, self.image, "gateway",
        )  # fmt: skip
        return container

    async def clean(self) -> None:
        for container in self.containers:
            await asyncio.to_thread(self.engine.try_to, "kill", container.name)
            await asyncio.to_thread(self.engine.try_to, "rm", "--force", container.name)
        await asyncio.to_thread(self.engine.try_to, "volume", "rm", "--force", self.volume)

    def told(self) -> str:
        """What every container said last, for a failure."""
        return "\n".join(f"--- {one.name} {one.state()}\n{one.logs()}" for one in self.containers)


@asynccontextmanager
async def world_of(engine: Engine, image: str, temporal: str, folder: Path) -> AsyncGenerator[World]:
    """A world whose volume is marked; nothing of it is left afterwards."""
    world = World(engine, image, temporal, folder)
    try:
        await asyncio.to_thread(engine, "volume", "create", world.volume)
        await world.once("init")
        yield world
    except BaseException:
        print(world.told())
        raise
    finally:
        await world.clean()


class Http:
    """The gateway, as a client sees it."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"})

    async def close(self) -> None:
        await self._session.close()

    async def get(self, path: str, **query: str) -> tuple[int, Any]:
        async with self._session.get(self.url + path, params=query) as answer:
            return answer.status, await answer.json()

    async def say(self, key: str, text: str, *, wait_s: int = 0) -> dict[str, Any]:
        """Errors: AssertionError, when it is not taken."""
        path = f"{self.url}/v1/sessions/{key}/messages"
        async with self._session.post(path, params={"wait": str(wait_s)}, json={"text": text}) as answer:
            found = await answer.json()
            assert answer.status in (200, 202), found
            return found

    async def until_ready(self) -> None:
        async with asyncio.timeout(STARTED_S):
            while True:
                try:
                    status, _ = await self.get("/readyz")
                    if status == 200:
                        return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)

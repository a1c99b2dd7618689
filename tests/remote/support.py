"""Commands as people run them, each a process of its own, beside a gateway of this process."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.support import COMMAND, clean_environment
from tests.support import Service

COMMAND_S = 60.0


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Shell:
    """Where commands are typed: a data directory, an environment, options of every command."""

    def __init__(self, data_dir: Path, *options: str, **environment: str) -> None:
        self._options = options
        self.environment = clean_environment(data_dir, **environment)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *COMMAND,
            *self._options,
            *arguments,
            env=self.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: str, input: str = "") -> Ran:
        process = await self.start(*arguments)
        try:
            async with asyncio.timeout(COMMAND_S):
                out, err = await process.communicate(input.encode())
        finally:
            if process.returncode is None:
                process.kill()
        return Ran(process.returncode or 0, out.decode(), err.decode())


def at_the_service(service: Service) -> Shell:
    """On the machine where the service runs."""
    settings = service.settings
    given = {"TEMPORAL__ADDRESS": settings.temporal.address, "TASK_QUEUE": settings.task_queue}
    return Shell(settings.data_dir, **{f"AGENT_SESSION_{name}": value for name, value in given.items()})


def elsewhere(tmp_path: Path, url: str, token: str) -> Shell:
    """On a machine that knows a URL and a token, and has no data directory."""
    return Shell(tmp_path / "nothing-here", "--url", url, "--token-file", str(token_file(tmp_path / "token", token)))


def token_file(path: Path, token: str) -> Path:
    path.write_text(f"{token}\n")
    path.chmod(0o600)
    return path


async def both(here: Shell, there: Shell, *arguments: str) -> tuple[Ran, Ran]:
    local, remote = await asyncio.gather(here.run(*arguments), there.run(*arguments))
    return local, remote

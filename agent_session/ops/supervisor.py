"""`up`: one process tree of embedded Temporal, workers, channels and the gateway, until told to stop.

Owns the data directory by a held lock, restarts what dies, and takes everything with it when it goes,
however it goes (children hold a pipe from us).
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from temporalio.client import Client

from agent_session.client import SessionClient
from agent_session.connection import Service, configured_address, connect, pollers
from agent_session.domain.status import IDLE
from agent_session.gateway.address import forget_gateway, read_gateway
from agent_session.live.bus import needs_relay
from agent_session.live.hub import LiveHub
from agent_session.ops.child import Child
from agent_session.ops.embedded import EmbeddedTemporal, same_port_as_before
from agent_session.ops.keeping import keep, next_pause
from agent_session.ops.owner import announce, has_clients, ownership, withdraw
from agent_session.settings import Settings
from agent_session.telemetry import LOG_FOLDER
from agent_session.transcript.volume import Volume

UNUSED_S = 10.0
READY_DEADLINE_S = 60.0
STOP_S = 4.0
GIVE_UP_DEATHS = 3  #: workers that died before the first was ready: something is wrong for good

log = structlog.get_logger("agent_session.up")


@dataclass(frozen=True)
class UpOptions:
    """What the flags of `up` say."""

    workers: int = 1
    while_used: bool = False
    ui: bool = False
    gateway: bool = True
    channels: tuple[str, ...] = ()  #: those that get a process of their own


class Supervisor:
    """Everything that `up` runs."""

    def __init__(self, settings: Settings, options: UpOptions, say: Callable[[str], None]) -> None:
        self._settings, self._options, self._say = settings, options, say
        self._embedded: EmbeddedTemporal | None = None
        self._children: list[Child] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._started = self._deaths = 0
        self._gateway_told = False

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, or until nobody uses it. Errors: NotAVolume, OwnedByAnother, NoTemporalBinary,
        Unreachable, TimeoutError."""
        data_dir = self._settings.data_dir
        Volume(data_dir).create_or_check()
        (data_dir / LOG_FOLDER).mkdir(mode=0o700, exist_ok=True)
        with ownership(data_dir):
            withdraw(data_dir)
            hub = LiveHub(data_dir) if needs_relay(self._settings) else None
            try:
                if hub is not None:
                    await hub.start()
                if await self._started_before(stop, data_dir):
                    await self._until_done(stop)
            finally:
                if hub is not None:
                    await hub.stop()
                withdraw(data_dir)
                await self._stop()

    async def _started_before(self, stop: asyncio.Event, data_dir: Path) -> bool:
        """Whether all stood before somebody said stop: a start that gets nowhere takes a minute. Errors: as `run`."""
        starting, stopping = asyncio.create_task(self._start(data_dir)), asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            return False
        await starting
        return True

    async def _start(self, data_dir: Path) -> None:
        address = configured_address(self._settings)
        if not address:
            self._embedded = EmbeddedTemporal(
                data_dir / "temporal.db",
                data_dir / LOG_FOLDER / "temporal.log",
                port=same_port_as_before(data_dir),
                namespace=self._settings.temporal.namespace or "default",
                ui=self._options.ui,
            )
            await self._embedded.start()
            self._tasks.append(asyncio.create_task(self._keep_temporal(self._embedded)))
            address = self._embedded.address
            if self._options.ui:
                self._say(f"Temporal's UI: http://127.0.0.1:{self._embedded.ui_port}")
        for number in range(self._options.workers):
            self._keep("a worker", partial(self._worker_life, number, address), died=self._worker_died)
        if self._options.gateway:
            forget_gateway(data_dir)
            life = partial(self._one_life, address, "gateway", "gateway", "gateway")
            self._keep("the gateway", life, died=self._gateway_died)
            self._tasks.append(asyncio.create_task(self._tell_gateway()))
        client = await connect(self._settings, self._embedded.address if self._embedded else "")
        await self._wait_for_pollers(client)
        announce(data_dir, Service(address, client.namespace, self._settings.task_queue, os.getpid()))
        for name in self._options.channels:
            self._keep(f"the channel {name}", partial(self._channel_life, name, address))
        self._say(f"ready: Temporal on {address}, data in {data_dir}, pid {os.getpid()}")

    async def _until_done(self, stop: asyncio.Event) -> None:
        unused_since: float | None = None
        while not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), 1.0)
            except TimeoutError:
                pass
            if not self._options.while_used:
                continue
            if has_clients(self._settings.data_dir):
                unused_since = None
            elif unused_since is None:
                unused_since = time.monotonic()
            elif time.monotonic() - unused_since > UNUSED_S and not await self._anything_open():
                log.info("nobody uses the service and nothing is open: it ends")
                return

    async def _anything_open(self) -> bool:
        """Whether a turn, an approval or a delivery is open in any session."""
        try:
            address = self._embedded.address if self._embedded else ""
            client = await SessionClient.connect(self._settings, address=address)
            for row in await client.sessions():
                status = await client.status(row.key)
                if status.state not in (IDLE, "closed") or status.queue or status.deliveries:
                    return True
        except Exception as error:
            log.warning("cannot tell whether something is open; staying up", error=str(error)[:300])
            return True
        return False

    async def _keep_temporal(self, embedded: EmbeddedTemporal) -> None:
        pause = 0.0
        while True:
            began = time.monotonic()
            await embedded.died()
            pause = next_pause(pause, time.monotonic() - began)
            log.warning("the embedded Temporal server died; it is started again", pause_s=pause)
            await asyncio.sleep(pause)
            try:
                await embedded.start()
            except Exception as error:  # whatever it is: nobody else would start it again
                log.error("the embedded Temporal server does not start", error=str(error))

    async def _worker_life(self, number: int, address: str) -> int:
        self._started += 1
        return await self._one_life(address, f"worker-{number}.{self._started}", "worker", "worker", "--all-channels")

    def _worker_died(self) -> None:
        self._deaths += 1

    def _gateway_died(self) -> None:
        """Said once: what else runs is of use without it."""
        if self._gateway_told:
            return
        self._gateway_told = True
        path = self._settings.data_dir / LOG_FOLDER / "gateway.err"
        last = (path.read_text(errors="replace").strip().splitlines() if path.exists() else [])[-1:]
        self._say(f"the gateway ended and is started again: {' '.join(last) or 'it said nothing'} (see {path})")

    async def _channel_life(self, name: str, address: str) -> int:
        whole = f"channel-{name}"
        return await self._one_life(address, whole, whole, "channels", "run", name, "--supervised")

    async def _tell_gateway(self) -> None:
        while (found := read_gateway(self._settings.data_dir)) is None:
            await asyncio.sleep(0.1)
        self._say(f"gateway: {found.url}; open its page: agent-session page")

    def _keep(self, what: str, live: Callable[[], Awaitable[int]], died: Callable[[], None] = lambda: None) -> None:
        self._tasks.append(asyncio.create_task(keep(what, live, died=died)))

    async def _one_life(self, address: str, name: str, log_name: str, *command: str) -> int:
        """Of a child that runs one of our commands. Errors: OSError when it cannot be started."""
        child = await Child.start(
            [sys.executable, "-m", "agent_session", *command],
            self._settings.data_dir / LOG_FOLDER / f"{log_name}.err",
            self._environment(address, f"{name}@{os.getpid()}"),
        )
        self._children.append(child)
        try:
            return await child.wait()
        finally:
            if not child.alive:
                self._children.remove(child)

    def _environment(self, address: str, identity: str) -> dict[str, str]:
        """A child's: ours, and what our flags said."""
        ours = {
            "AGENT_SESSION_DATA_DIR": str(self._settings.data_dir),
            "AGENT_SESSION_WORKER__IDENTITY": identity,
            "AGENT_SESSION_TEMPORAL__ADDRESS": address,
        }
        if self._embedded is not None and self._embedded.ui_port and not self._settings.temporal.ui_url:
            ours["AGENT_SESSION_TEMPORAL__UI_URL"] = f"http://127.0.0.1:{self._embedded.ui_port}"
        return {**os.environ, **ours}

    async def _wait_for_pollers(self, client: Client) -> None:
        deadline = time.monotonic() + READY_DEADLINE_S
        while time.monotonic() < deadline and self._deaths < GIVE_UP_DEATHS:
            mine = f"@{os.getpid()}"
            if any(identity.endswith(mine) for identity in await pollers(client, self._settings.task_queue)):
                return
            await asyncio.sleep(0.05)
        errors = (self._settings.data_dir / LOG_FOLDER / "worker.err").read_text(errors="replace").strip()
        last = errors.splitlines()[-3:] if errors else [f"see {self._settings.data_dir / LOG_FOLDER}"]
        raise TimeoutError("no worker came up: " + "\n  ".join(last))

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(child.stop(STOP_S) for child in list(self._children)))
        if self._embedded is not None:
            await self._embedded.stop()

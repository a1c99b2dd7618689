"""A worker process from its settings: what `agent-session worker` runs. Imports the whole engine, so it
stands apart from the commands that need to start quickly."""

import asyncio
import time
from functools import partial

from temporalio.client import Client

from agent_session.cli.common import say
from agent_session.connection import Unreachable, connect
from agent_session.live.bus import live_bus
from agent_session.operations import load_services
from agent_session.ops.owner import is_owned
from agent_session.scheduled.targets import check_address
from agent_session.settings import Settings
from agent_session.telemetry import set_up_logging
from agent_session.telemetry.process import Process
from agent_session.telemetry.readiness import Readiness
from agent_session.worker import channel_worker, identity, require_search_attribute, run_workers, session_worker
from channels import channel_names, delivered_by_workers, load_channel

CONNECT_PATIENCE_S = 60.0


async def work(settings: Settings, names: list[str], all_channels: bool, stop: asyncio.Event) -> None:
    """A worker's life. Errors: BadSettings, BadTool, ModelFault, Unreachable."""
    supervised = all_channels and is_owned(settings.data_dir)
    set_up_logging(settings, process=identity(settings).partition(".")[0], to_file=supervised)
    ready = Readiness(settings, settings.task_queue, identity(settings))
    async with Process(settings, "worker", stop, supervised=supervised)(ready.found):
        await _work(settings, names, all_channels, stop, ready, supervised=supervised)


async def _work(
    settings: Settings, names: list[str], all_channels: bool, stop: asyncio.Event, ready: Readiness, *, supervised: bool
) -> None:
    services = load_services(settings)
    services.live = bus = live_bus(settings)
    publishing = asyncio.create_task(bus.run())
    await services.model.warm()
    client = await connect_patiently(settings, stop)
    ready.connected(client)
    await require_search_attribute(client)
    every = [load_channel(name, settings) for name in channel_names()]
    services.channels = tuple(one.name for one in every if one.capabilities.delivers)
    services.check_address = partial(check_address, settings=settings)
    own = delivered_by_workers(settings) if all_channels else []
    chosen = [load_channel(name, settings) for name in dict.fromkeys([*own, *names])]
    deliveries = [channel_worker(client, one, settings) for one in chosen if one.capabilities.delivers]
    if not supervised:
        say(f"worker {identity(settings)} polls {settings.task_queue!r}")
    await run_workers([session_worker(client, services), *deliveries], stop)
    publishing.cancel()


async def connect_patiently(settings: Settings, stop: asyncio.Event) -> Client:
    """Temporal may be starting, too: try for a minute. Errors: Unreachable."""
    deadline = time.monotonic() + CONNECT_PATIENCE_S
    while True:
        try:
            return await connect(settings, identity=identity(settings))
        except Unreachable:
            if time.monotonic() > deadline or stop.is_set():
                raise
        await asyncio.sleep(0.2)

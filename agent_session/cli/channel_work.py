"""A channel's process from its settings: what `agent-session channels run NAME` runs. Its source and its
deliveries live together here, and each is started again by itself when it fails."""

import asyncio

from agent_session.cli.common import say
from agent_session.cli.work import connect_patiently
from agent_session.client import SessionClient
from agent_session.ops.keeping import keep
from agent_session.settings import BadSettings, Settings
from agent_session.telemetry import set_up_logging
from agent_session.telemetry.process import Process
from agent_session.telemetry.readiness import Readiness
from agent_session.transcript.volume import Volume
from agent_session.worker import channel_worker, identity, run_workers
from channels import load_channel, missing
from channels.base import Channel


async def run_channel(settings: Settings, name: str, stop: asyncio.Event, *, supervised: bool = False) -> None:
    """Until `stop`. Errors: NoSuchChannel, BadSettings (not configured), NotAVolume, Unreachable."""
    channel = load_channel(name, settings)
    can = channel.capabilities
    if lacking := missing(name, settings):
        raise BadSettings(f"the channel {name} is not configured: {lacking}")
    if not (can.receives or can.delivers):
        raise BadSettings(f"the channel {name} has nothing to run: it neither listens nor delivers")
    Volume(settings.data_dir).check()
    set_up_logging(settings, process=f"channel-{name}", to_file=supervised)
    queue = f"{settings.task_queue}.channel.{name}" if can.delivers else ""
    ready = Readiness(settings, queue, identity(settings), activities=True)
    async with Process(settings, f"channel-{name}", stop, supervised=supervised)(ready.found):
        await _run(settings, channel, stop, ready, supervised=supervised)


async def _run(
    settings: Settings, channel: Channel, stop: asyncio.Event, ready: Readiness, *, supervised: bool
) -> None:
    name, can = channel.name, channel.capabilities
    client = await connect_patiently(settings, stop)
    ready.connected(client)
    sessions = SessionClient(client, settings, channel=name, principal=name)
    sessions.grants = ()  # authority is what the channel gives to whom it has authenticated (I10)

    async def listen() -> str:
        await channel.run(sessions)
        say(f"channel {name}: its source has ended; it only delivers now")
        await stop.wait()
        return "stopped"

    listening = asyncio.create_task(keep(f"the source of {name}", listen) if can.receives else stop.wait())
    stopping = asyncio.create_task(stop.wait())
    stopping.add_done_callback(lambda _: listening.cancel())  # no more is taken in while deliveries are drained
    if not supervised:
        say(f"channel {name} runs; its deliveries wait on {settings.task_queue}.channel.{name}")
    try:
        await run_workers([channel_worker(client, channel, settings)] if can.delivers else [], stop)
    finally:
        stopping.cancel()
        await asyncio.gather(listening, return_exceptions=True)

"""Serving the gateway until told to stop: checks, a port, a graceful end."""

import asyncio
import errno
from collections.abc import Callable
from contextlib import suppress

import structlog
from aiohttp import web

from agent_session.connection import connect
from agent_session.gateway.address import Announcement, url_of
from agent_session.gateway.app import application
from agent_session.gateway.gauges import Gauges
from agent_session.gateway.runner import runner_of
from agent_session.gateway.state import Gateway
from agent_session.gateway.tokens import Tokens, make_token, refuse_open_without_token
from agent_session.live.bus import live_bus
from agent_session.settings import BadSettings, Settings
from agent_session.telemetry.process import Process
from agent_session.transcript.volume import Volume

log = structlog.get_logger("agent_session.gateway")


async def serve(settings: Settings, stop: asyncio.Event, say: Callable[[str], None], address: str = "") -> None:
    """Fails closed before a port is opened. Errors: BadSettings, VolumeUnavailable, Unreachable."""
    refuse_open_without_token(settings.gateway)
    live_bus(settings)  # a bad `live.url` is refused here, not at the first stream
    Volume(settings.data_dir).check()
    if not (settings.gateway.token.get_secret_value() or settings.gateway.token_file):
        make_token(settings.data_dir)
    async with Process(settings, "gateway", stop, serves=True)():
        await _serve(settings, stop, say, address)


async def _serve(settings: Settings, stop: asyncio.Event, say: Callable[[str], None], address: str) -> None:
    gateway = Gateway(await connect(settings, address), settings, Tokens(settings.gateway, settings.data_dir))
    looking = asyncio.create_task(Gauges(gateway.temporal, settings).run())
    runner = runner_of(application(gateway), idle_s=settings.gateway.keep_alive_s)
    await runner.setup()
    try:
        url = await _listen(runner, settings)
        announcement = Announcement(settings.data_dir, url)
        with suppress(OSError):  # a volume that is full or read-only: it can be used all the same
            announcement.announce()
        announcing = asyncio.create_task(announcement.keep())
        say(f"gateway ready on {url}")
        await stop.wait()
        gateway.stopping.set()
        announcing.cancel()
        await asyncio.wait([announcing])
    finally:
        looking.cancel()
        await runner.cleanup()


async def _listen(runner: web.AppRunner, settings: Settings) -> str:
    """The default port may belong to somebody else's gateway: then any other will do, as local commands find it by
    `gateway.json`. A port that was asked for is taken or refused. Errors: BadSettings."""
    host, port = settings.gateway.host, settings.gateway.port
    asked_for = "port" in settings.gateway.model_fields_set
    for wanted in (port,) if asked_for else (port, 0):
        try:
            await web.TCPSite(runner, host, wanted).start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE and wanted != 0 and not asked_for:
                log.warning("the default port is taken; a free one is used", port=wanted)
                continue
            raise BadSettings(f"gateway.host {host}, port {wanted}: {error.strerror or error}") from None
        return url_of(host, runner.addresses[0][1])
    raise AssertionError("unreachable")

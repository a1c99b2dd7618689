"""Health and metrics of a process that serves no HTTP otherwise: a worker, a channel.

Without a token: it says nothing of any session. GET only; small answers.
"""

import asyncio
import errno
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from agent_session.settings import BadSettings
from agent_session.telemetry import switches
from agent_session.telemetry.metrics import REGISTRY

KEEP_ALIVE_S = 75.0


class Ready(Protocol):
    """What `/readyz` needs to know."""

    @property
    def temporal(self) -> bool: ...
    @property
    def volume(self) -> bool: ...
    @property
    def worker(self) -> bool: ...
    @property
    def ready(self) -> bool: ...


def address_of(listen: str) -> tuple[str, int]:
    """Host and port of `telemetry.listen`; `:9464` is every address of the machine. Errors: BadSettings."""
    host, colon, port = listen.strip().rpartition(":")
    bare = host.strip("[]")
    if not colon or not port.isdecimal() or not 0 <= int(port) <= 65535 or (":" in bare and not host.startswith("[")):
        raise BadSettings(f"telemetry.listen {listen!r} is no address: give host:port, as in 127.0.0.1:9464")
    return bare or "0.0.0.0", int(port)


def exposition() -> bytes:
    """The process's metrics in Prometheus' text format."""
    core = switches.core_metrics
    if core is not None:
        core.empty()
    return generate_latest(REGISTRY)


def application(ready: Callable[[], Awaitable[Ready]], stopping: asyncio.Event) -> web.Application:
    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(request: web.Request) -> web.Response:
        found = await ready()
        good = found.ready and not stopping.is_set()
        word = "ok" if good else "stopping" if stopping.is_set() else "unavailable"
        body: dict[str, Any] = {"status": word, "temporal": found.temporal, "volume": found.volume}
        return web.json_response(body | {"worker": found.worker}, status=200 if good else 503)

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", metrics)
    return app


@asynccontextmanager
async def listening(
    listen: str, ready: Callable[[], Awaitable[Ready]], stopping: asyncio.Event, *, spare: int = 0
) -> AsyncGenerator[int]:
    """Serve while inside; gives the port. From `stopping` on the process is not ready. `spare`: how many ports after it
    may be taken when the one is not free. Errors: BadSettings."""
    host, port = address_of(listen)
    runner = web.AppRunner(
        application(ready, stopping),
        handle_signals=False,
        access_log=None,
        shutdown_timeout=0.5,
        keepalive_timeout=KEEP_ALIVE_S,
    )
    await runner.setup()
    try:
        for wanted in range(port, port + spare + 1):
            try:
                await web.TCPSite(runner, host, wanted).start()
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or wanted == port + spare:
                    raise BadSettings(f"telemetry.listen {listen}: {error.strerror or error}") from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()

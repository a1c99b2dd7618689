"""Telemetry of one process, from its start to its end: starts counted, Temporal's metrics emptied, OTLP fed, health
served. Wiring only."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog

from agent_session.settings import Settings
from agent_session.telemetry import metrics, spans, steps
from agent_session.telemetry.core_metrics import switch_on
from agent_session.telemetry.listen import Ready, address_of, listening
from agent_session.telemetry.starts import Starts

SPARE_PORTS = 20

log = structlog.get_logger("agent_session.telemetry")


class Process:
    """To be made before the first connection to Temporal. Errors: BadSettings."""

    def __init__(
        self, settings: Settings, role: str, stop: asyncio.Event, *, serves: bool = False, supervised: bool = False
    ) -> None:
        """`stop` is set when it is told to end: from then on it is not ready, and its end is a clean one. `serves`: the
        metrics are shown by a server of its own (the gateway). `supervised`: one of several that share the settings of
        an `up`, so it may listen on one of the ports after the one that is set."""
        self._settings, self._stopping, self._spare = settings, stop, SPARE_PORTS if supervised else 0
        self._listen = "" if serves else settings.telemetry.listen
        if self._listen:
            address_of(self._listen)
        self._traced = spans.set_up(settings)
        self._counted = bool(serves or self._listen or self._traced)
        self._tasks: list[asyncio.Task[Any]] = []
        place = self._listen or f"{settings.gateway.host}:{settings.gateway.port}"
        slot = settings.worker.identity.partition(".")[0] if supervised else ""
        told = bool(settings.telemetry.listen)  # who asks for no metrics gets no file
        self._starts = Starts(role, place, slot, str(settings.data_dir)) if told else None
        if self._starts is not None:
            self._starts.started()
        if serves or self._listen:
            metrics.build_info.labels(role, spans.our_version(), settings.worker.build_id).set(1)
        if self._counted:
            self._core = switch_on()

    @asynccontextmanager
    async def __call__(self, ready: Callable[[], Awaitable[Ready]] | None = None) -> AsyncGenerator[None]:
        """Around the process's work. Errors: BadSettings for an address that cannot be listened on."""
        if not self._counted:
            yield
            return
        steps.watch()
        self._tasks.append(asyncio.create_task(self._core.run()))
        if self._traced:
            self._tasks.append(asyncio.create_task(self._export()))
        try:
            if self._listen and ready is not None:
                async with listening(self._listen, ready, self._stopping, spare=self._spare) as port:
                    log.info("health and metrics are served", port=port)
                    yield
            else:
                yield
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._starts is not None and self._stopping.is_set():
                self._starts.ended()

    async def _export(self) -> None:
        from agent_session.telemetry.otlp_metrics import keep_exporting

        await keep_exporting(spans.endpoint_of(self._settings))

"""The whole list: which checks there are, in which order they are told, and how long each may take."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent_session.ops.doctor.findings import Finding, failed, in_a_thread, in_time, ok, skipped
from agent_session.ops.doctor.volume import WITHIN_S, volume_checks
from agent_session.ops.doctor.volume_peer import peer_checks
from agent_session.settings import CONFIG_FILE, PREFIX, BadSettings, Settings, data_dir_of, load_settings
from agent_session.transcript.volume import MARKER

FILES_S, SERVER_S, MODEL_S = 10.0, 20.0, 60.0
PEER_S = 180.0  #: what a check between two hosts may take once they have met


@dataclass(frozen=True)
class Asked:
    """What the person wants looked at."""

    data_dir: Path | None = None
    address: str | None = None
    model: bool = False  #: ask the model, too


async def examine(asked: Asked) -> AsyncGenerator[Finding]:
    """Every finding in a fixed order. All checks begin at once, each ends within its time."""
    data_dir = data_dir_of(asked.data_dir)
    holder: list[Settings] = []
    for one in await in_a_thread("settings", FILES_S, lambda: _settings(asked, holder)):
        yield one
    settings = holder[0] if holder else None
    for running in _started(settings, data_dir, asked):
        for one in await running:
            yield one
    if settings is None:
        yield skipped("services", "Temporal, workers and the rest were not looked at: the settings cannot be used")


def _settings(asked: Asked, holder: list[Settings]) -> list[Finding]:
    given = {"temporal": {"address": asked.address}} if asked.address else {}
    try:
        holder.append(load_settings({"data_dir": asked.data_dir, **given}))
    except BadSettings as error:
        words = " ".join(str(error).split())
        return [failed("settings", words, "agent-session config edit, or correct the environment: docs/settings.md")]
    file = holder[0].data_dir / CONFIG_FILE
    names = sum(name.startswith(PREFIX) for name in os.environ)
    origin = f"{file} and " if file.exists() else ""
    return [ok("settings", f"read from {origin}{names} environment variables: agent-session config show lists them")]


def _started(settings: Settings | None, data_dir: Path, asked: Asked) -> list[Awaitable[list[Finding]]]:
    from agent_session.ops.doctor.directory import directory_checks, space_checks
    from agent_session.ops.doctor.writers import writer_checks

    shared, reserve = False, 0
    if settings is not None:
        shared = _is_shared(settings)
        reserve = settings.tools.shell.disk_reserve_mb
    checks = [
        in_a_thread("directory", FILES_S, lambda: directory_checks(data_dir, shared=shared)),
        in_a_thread("space", FILES_S, lambda: space_checks(data_dir, reserve)),
        *(_of_services(settings, asked) if settings is not None else ()),
        in_a_thread("writers", FILES_S, lambda: writer_checks(data_dir)),
        in_a_thread("volume", WITHIN_S, lambda: _volume(data_dir)),
    ]
    return [asyncio.ensure_future(one) for one in checks]


def _of_services(settings: Settings, asked: Asked) -> list[Coroutine[Any, Any, list[Finding]]]:
    from agent_session.ops.doctor import services
    from agent_session.ops.doctor.directory import secret_checks
    from agent_session.ops.doctor.temporal import temporal_checks

    return [
        in_a_thread("secrets", FILES_S, lambda: secret_checks(settings)),
        in_time("temporal", SERVER_S, lambda: temporal_checks(settings)),
        in_a_thread("channels", FILES_S, lambda: services.channel_checks(settings)),
        in_time("gateway", SERVER_S, lambda: services.gateway_checks(settings)),
        in_time("live", FILES_S, lambda: services.live_checks(settings)),
        in_a_thread("sandbox", SERVER_S, lambda: services.sandbox_checks(settings)),
        in_time("model", MODEL_S, lambda: services.model_checks(settings, ask=asked.model)),
    ]


def _is_shared(settings: Settings) -> bool:
    from agent_session.connection import configured_address

    try:
        return bool(configured_address(settings))
    except BadSettings:
        return True


def _volume(data_dir: Path) -> Generator[Finding]:
    """Nothing is written where the marker is missing: it may be a mount point without its volume."""
    if (data_dir / MARKER).exists():
        yield from volume_checks(data_dir)
    else:
        yield skipped("volume", f"{data_dir} is no volume yet", "try any directory: agent-session doctor --volume DIR")


async def examine_volume(root: Path, *, wait_s: float | None) -> AsyncGenerator[Finding]:
    """The volume alone; `wait_s`: with another host, which is waited for so long."""
    if wait_s is None:
        found = await in_a_thread("volume", WITHIN_S, lambda: volume_checks(root))
    else:
        found = await in_a_thread("peer", wait_s + PEER_S, lambda: peer_checks(root, wait_s))
    for one in found:
        yield one

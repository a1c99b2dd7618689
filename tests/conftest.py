"""Fixtures: one real Temporal server a test process, one volume a test."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from temporalio.client import Client

from agent_session.connection import connect
from agent_session.ops.embedded import EmbeddedTemporal
from agent_session.transcript.volume import Volume
from tests.support import Service, decoded, settings_for

for name in [name for name in os.environ if name.startswith(("AGENT_SESSION_", "TEMPORAL_"))]:
    del os.environ[name]  # a developer's own service must not reach into tests
for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
    os.environ.pop(name, None)

# How long an example takes says something about the machine, nothing about the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
async def temporal_address(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A dev server with the settings of the embedded one, in memory."""
    server = EmbeddedTemporal(None, tmp_path_factory.mktemp("temporal") / "log")
    await server.start()
    yield server.address
    await no_secret_in_any_history(server.address)
    await server.stop(0)


async def no_secret_in_any_history(address: str) -> None:
    """I3, over everything that the tests of this process made Temporal record."""
    client = await Client.connect(address)
    async for found in client.list_workflows(limit=400):
        if found.history_length > 2_000:
            continue  # floods of one repeated message
        handle = client.get_workflow_handle(found.id, run_id=found.run_id)
        async for event in handle.fetch_history_events():
            assert "canary-key" not in decoded(event), f"a secret is in the history of {found.id}"


@pytest.fixture
def make_service(temporal_address: str, tmp_path: Path) -> Callable[..., Any]:
    """Make a service with settings of its own; the volume is new."""

    async def make(**more: Any) -> Service:
        settings = settings_for(tmp_path / "data", temporal_address, **more)
        volume = Volume(settings.data_dir)
        if not settings.data_dir.exists():
            volume.create()
        return Service(settings, await connect(settings))

    return make


@pytest.fixture
async def service(make_service: Callable[..., Any]) -> AsyncIterator[Service]:
    """A service with one worker and the offline model."""
    made: Service = await make_service()
    async with made.worker("file") as services:
        made.services = services
        yield made


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    made = Volume(tmp_path / "volume")
    made.create()
    return made

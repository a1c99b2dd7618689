"""What doctor says of Temporal, against real servers: one that is as it should be, and ones that lack something."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client

from agent_session.ops.child import Child
from agent_session.ops.doctor import temporal
from agent_session.ops.doctor.findings import Finding
from agent_session.ops.doctor.temporal import temporal_checks
from agent_session.ops.embedded import find_binary, free_port, is_serving
from tests.doctor.support import results
from tests.support import Service, settings_for


@pytest.fixture(scope="module")
async def bare(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A server as one starts it who has not read our documents."""
    port = free_port()
    command = [find_binary(), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(port), "--headless"]
    child = await Child.start(command, tmp_path_factory.mktemp("bare") / "log", dict(os.environ))
    address = f"127.0.0.1:{port}"
    async with asyncio.timeout(60):
        while not await is_serving(address):
            await asyncio.sleep(0.05)
    yield address
    await child.stop(0)


def one(findings: list[Finding], check: str) -> Finding:
    return next(found for found in findings if found.check == check)


async def test_a_server_with_workers_is_as_it_should_be(service: Service) -> None:
    async with asyncio.timeout(20):  # until the server has seen the first polls
        while set(results(found := await temporal_checks(service.settings)).values()) != {"ok"}:
            await asyncio.sleep(0.1)
    assert set(results(found)) == {
        "temporal", "versions", "temporal.namespace", "temporal.search_attribute", "temporal.workers",
        "channels.deliveries", "temporal.tuning", "temporal.clock",
    }  # fmt: skip
    assert abs(one(found, "temporal.clock").figures["skew_s"]) < 1
    assert one(found, "temporal.workers").figures["workers"] == 1


async def test_a_queue_that_nobody_polls_fails_and_says_how_to_start_a_worker(make_service: Callable[..., Any]) -> None:
    service = await make_service()
    found = await temporal_checks(service.settings)
    assert one(found, "temporal.workers").result == "failed"
    assert "agent-session worker --all-channels" in one(found, "temporal.workers").todo
    assert one(found, "channels.deliveries").result == "failed"


async def test_a_server_without_our_attribute_and_tuning_is_named_with_the_commands(tmp_path: Path, bare: str) -> None:
    found = await temporal_checks(settings_for(tmp_path / "data", bare))
    missing = one(found, "temporal.search_attribute")
    assert missing.result == "failed"
    assert missing.todo.startswith("temporal operator search-attribute create --namespace default")
    tuning = one(found, "temporal.tuning")
    assert tuning.result == "warning"
    assert "history.transferProcessorMaxPollRPS" in tuning.words


async def test_a_namespace_that_does_not_exist_is_named_with_the_command(tmp_path: Path, temporal_address: str) -> None:
    settings = settings_for(tmp_path / "data", temporal_address, temporal={"namespace": "nowhere"})
    settings = settings.model_copy(
        update={"temporal": settings.temporal.model_copy(update={"address": temporal_address})}
    )
    found = one(await temporal_checks(settings), "temporal.namespace")
    assert found.result == "failed"
    assert "temporal operator namespace create --namespace nowhere" in found.todo


async def test_a_namespace_of_its_own_needs_the_attribute_too(tmp_path: Path, temporal_address: str) -> None:
    client = await Client.connect(temporal_address)
    asked = RegisterNamespaceRequest(namespace="own", workflow_execution_retention_period=Duration(seconds=86400))
    await client.workflow_service.register_namespace(asked)
    settings = settings_for(tmp_path / "data", temporal_address)
    settings = settings.model_copy(update={"temporal": settings.temporal.model_copy(update={"namespace": "own"})})
    async with asyncio.timeout(20):  # a namespace is known everywhere after some seconds
        while True:
            found = await temporal_checks(settings)
            if one(found, "temporal.namespace").result == "ok" and "temporal.search_attribute" in results(found):
                break
            await asyncio.sleep(0.2)
    assert one(found, "temporal.search_attribute").result == "failed"


async def test_nothing_that_runs_here_is_a_warning_and_a_named_server_that_is_away_a_failure(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "data", "")
    (found,) = await temporal_checks(settings)
    assert (found.result, found.todo) == ("warning", "start it: agent-session up")
    (found,) = await temporal_checks(settings_for(tmp_path / "data", f"127.0.0.1:{free_port()}"))
    assert found.result == "failed"


async def test_a_server_that_takes_the_connection_and_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporal, "CONNECT_S", 1.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with asyncio.timeout(10):
            (found,) = await temporal_checks(settings_for(tmp_path / "data", f"127.0.0.1:{silent.getsockname()[1]}"))
    assert found.result == "failed"


@pytest.mark.parametrize(("at", "result"), [(100.2, "ok"), (130.0, "warning"), (60.0, "warning")])
def test_a_server_whose_clock_differs_is_named(at: float, result: str) -> None:
    """A clock that is wrong cannot be made here without making everybody's wrong."""
    found = temporal._skew("temporal.clock", at, 100.0, 100.5)
    assert found.result == result
    assert ("ahead" in found.words) == (at == 130.0)

"""`telemetry.listen`: what a worker and a channel say of themselves, over HTTP."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agent_session.settings import BadSettings
from agent_session.telemetry.listen import address_of
from agent_session.telemetry.starts import Starts
from agent_session.transcript.volume import MARKER
from tests.observability.processes import Machine, free_port, machine, settings_as_environment
from tests.support import Service, fresh_key

READY = {"status": "ok", "temporal": True, "volume": True, "worker": True}


@pytest.fixture
async def here(make_service: Callable[..., Any]) -> AsyncIterator[tuple[Service, Machine]]:
    service: Service = await make_service()
    async with machine(**settings_as_environment(service.settings)) as made:
        yield service, made


async def test_a_worker_that_can_work_is_ready_and_counts(here: tuple[Service, Machine]) -> None:
    service, made = here
    worker = await (await made.start("worker")).until_ready()
    reply = await service.ask(fresh_key("secret"), "remember canary")
    assert reply.ok
    assert await worker.until_sample("agent_session_turn_duration_seconds_count", 1, outcome="answered") == 1
    assert await worker.sample("agent_session_queue_wait_seconds_count", kind="person") == 1
    assert await worker.sample("agent_session_tokens_total", model="offline", type="output")
    assert await worker.sample("temporal_worker_task_slots_available", worker_type="ActivityWorker")
    assert await worker.until_sample("temporal_activity_schedule_to_start_latency_seconds_count", 1) == 1
    assert (await worker.get("/healthz"))[0] == 200
    assert json.loads((await worker.get("/readyz"))[1]) == READY
    text = (await worker.get("/metrics"))[1]
    assert "canary" not in text
    assert "secret" not in text


async def test_a_worker_without_its_volume_lives_and_is_not_ready(here: tuple[Service, Machine]) -> None:
    service, made = here
    worker = await (await made.start("worker")).until_ready()
    os.rename(service.volume.root / MARKER, service.volume.root / "away")
    async with asyncio.timeout(20):
        while (found := await worker.get("/readyz"))[0] == 200:
            await asyncio.sleep(0.1)  # an answer counts for a second
    os.rename(service.volume.root / "away", service.volume.root / MARKER)
    assert found[0] == 503
    assert json.loads(found[1]) == READY | {"status": "unavailable", "volume": False}
    assert (await worker.get("/healthz"))[0] == 200


async def test_a_worker_that_waits_for_temporal_lives_and_is_not_ready(here: tuple[Service, Machine]) -> None:
    _, made = here
    worker = await made.start("worker", AGENT_SESSION_TEMPORAL__ADDRESS="127.0.0.1:1")
    async with asyncio.timeout(30):
        while True:
            try:
                alive = (await worker.get("/healthz"))[0]
                break
            except OSError:
                await asyncio.sleep(0.1)
    status, text = await worker.get("/readyz")
    assert (alive, status) == (200, 503)
    assert json.loads(text)["temporal"] is False


async def test_a_worker_that_drains_is_not_ready_and_ends_cleanly(here: tuple[Service, Machine]) -> None:
    service, made = here
    worker = await (await made.start("worker", AGENT_SESSION_WORKER__GRACEFUL_STOP_S="5")).until_ready()
    await service.client.send(fresh_key(), "sleep 3", id="a")
    await worker.until_sample("temporal_worker_task_slots_used", 1, worker_type="ActivityWorker")
    worker.process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        while (found := await worker.get("/readyz"))[0] == 200:
            await asyncio.sleep(0.02)
    assert json.loads(found[1])["status"] == "stopping"
    assert await worker.stop() == 0


async def test_crashes_are_counted_and_clean_ends_are_not(here: tuple[Service, Machine]) -> None:
    _, made = here
    port = free_port()
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):
        worker = await (await made.start("worker", port=port)).until_ready()
        await worker.stop(number)
    worker = await (await made.start("worker", port=port)).until_ready()
    assert await worker.sample("agent_session_process_starts_total", role="worker") == 4
    assert await worker.sample("agent_session_process_crashes_total", role="worker") == 2
    assert await worker.sample("agent_session_process_crashes_recent", role="worker") == 2


def test_old_crashes_are_no_crash_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000_000.0
    monkeypatch.setattr("agent_session.telemetry.starts.time.time", lambda: now)
    for _ in range(3):
        starts = Starts("test-loop", "here", folder=tmp_path)
        starts.started()
    assert starts.recent() == 2
    now += 301
    assert starts.recent() == 0
    starts.ended()
    again = Starts("test-loop", "here", folder=tmp_path)
    again.started()
    assert again.recent() == 0


async def test_a_channels_process_is_ready_when_it_polls_for_its_deliveries(here: tuple[Service, Machine]) -> None:
    service, made = here
    await (await made.start("worker")).until_ready()
    channel = await (await made.start("channels", "run", "file")).until_ready()
    await service.ask(fresh_key(), "remember me", reply_address="file:out")
    await channel.until_sample("agent_session_delivery_duration_seconds_count", 1, channel="file", outcome="posted")
    assert await channel.sample("agent_session_delivery_wait_seconds_count", channel="file") == 1
    assert json.loads((await channel.get("/readyz"))[1]) == READY


async def test_an_address_that_cannot_be_used_is_said_and_ends_the_start(here: tuple[Service, Machine]) -> None:
    _, made = here
    taken = await (await made.start("worker")).until_ready()
    second = await made.start("worker", port=taken.port)
    assert await asyncio.wait_for(second.process.wait(), 30) == 2
    assert f"telemetry.listen 127.0.0.1:{taken.port}: " in second.errors.read_text()
    assert "Traceback" not in second.errors.read_text()


@pytest.mark.parametrize("bad", ["9464", "host", "host:", "host:port", "host:70000", "::1:80", "-1"])
def test_a_bad_address_is_refused_with_an_example(bad: str) -> None:
    with pytest.raises(BadSettings, match=r"telemetry\.listen .* 127\.0\.0\.1:9464"):
        address_of(bad)


@pytest.mark.parametrize(
    ("given", "meant"),
    [("127.0.0.1:9464", ("127.0.0.1", 9464)), (":80", ("0.0.0.0", 80)), ("[::1]:80", ("::1", 80)), ("h:0", ("h", 0))],
)
def test_addresses_are_read(given: str, meant: tuple[str, int]) -> None:
    assert address_of(given) == meant

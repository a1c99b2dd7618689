"""Probes and metrics: open, cheap, and silent about sessions."""

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from agent_session.connection import connect
from agent_session.transcript.volume import MARKER
from tests.channels.test_slack_in_once import Wire
from tests.gateway.support import Door, door
from tests.support import Service, fresh_key

READY = {"status": "ok", "temporal": True, "volume": True, "worker": True}


async def test_a_gateway_that_can_do_its_work_is_ready(gateway: Door) -> None:
    await gateway.say(fresh_key(), "hello")
    for path, answer in (("/healthz", {"status": "ok"}), ("/readyz", READY)):
        found = await gateway.get(path, token="")
        assert (found.status, found.json) == (200, answer)
    assert not list(gateway.service.volume.root.glob(".gateway-probe*"))


async def test_a_gateway_without_a_worker_or_its_volume_is_not_ready(make_service: Callable[..., Any]) -> None:
    async with door(await make_service()) as opened:
        no_worker = await opened.get("/readyz", token="")
        os.rename(opened.service.volume.root / MARKER, opened.service.volume.root / "away")
        async with asyncio.timeout(10):
            while (away := await opened.get("/readyz", token="")).json["volume"]:
                await asyncio.sleep(0.1)  # an answer counts for a second
        alive = await opened.get("/healthz", token="")
    assert (no_worker.status, no_worker.json) == (503, READY | {"status": "unavailable", "worker": False})
    assert (away.status, alive.status) == (503, 200)


async def test_a_gateway_that_reaches_temporal_can_serve_without_workers_and_volume(
    make_service: Callable[..., Any],
) -> None:
    """It takes messages, shows history and says 503 with Retry-After for what needs a worker; a load balancer that left
    it out would take all that away."""
    service: Service = await make_service()
    async with Wire(service.settings.temporal.address).running() as wire:
        service.temporal = await connect(service.settings, wire.address)
        async with door(service) as opened:
            os.rename(service.volume.root / MARKER, service.volume.root / "away")
            whole = await opened.get("/readyz", token="")
            serves = await opened.get("/readyz?for=gateway", token="")
            wire.cut()
            async with asyncio.timeout(20):
                while (cut := await opened.get("/readyz?for=gateway", token="")).status == 200:
                    await asyncio.sleep(0.1)  # an answer counts for a second
            strange = await opened.get("/readyz?for=pigeon", token="")
    assert (whole.status, serves.status, serves.json) == (503, 200, {"status": "ok", "temporal": True})
    assert (cut.status, cut.json) == (503, {"status": "unavailable", "temporal": False})
    assert (strange.status, strange.json["error"]["param"]) == (400, "for")


async def test_a_volume_that_hangs_does_not_hold_up_the_question_for_the_gateway(gateway: Door) -> None:
    let_go = threading.Event()
    gateway.gateway.probe._write = let_go.wait  # type: ignore[method-assign, assignment]
    whole = asyncio.create_task(gateway.get("/readyz", token=""))
    try:
        serves = await gateway.get("/readyz?for=gateway", token="")
        assert (serves.status, whole.done()) == (200, False)
    finally:
        let_go.set()
        await whole


async def test_asking_often_is_asking_once(gateway: Door) -> None:
    probed = list[str]()
    write = gateway.gateway.probe._write

    def noted() -> None:
        probed.append("")
        write()

    gateway.gateway.probe._write = noted  # type: ignore[method-assign]
    await asyncio.gather(*(gateway.get("/readyz", token="") for _ in range(20)))
    assert len(probed) == 1


async def counts(opened: Door) -> dict[tuple[str, ...], float]:
    raw = (await opened.get("/metrics", token="")).raw.decode()
    found = dict[tuple[str, ...], float]()
    for family in text_string_to_metric_families(raw):
        for sample in family.samples:
            found[sample.name, *sample.labels.values()] = sample.value
    return found


async def test_requests_are_counted_by_route_and_never_by_session(gateway: Door) -> None:
    keys = [fresh_key("secret") for _ in range(3)]
    for key in keys:
        await gateway.get(f"/v1/sessions/{key}")
    await gateway.get("/v1/sessions", token="wrong-token-0123456789")
    found = await counts(gateway)
    raw = (await gateway.get("/metrics", token="")).raw.decode()
    assert found["agent_session_http_requests_total", "GET", "/v1/sessions/{key}", "404"] == 3
    assert found["agent_session_http_requests_total", "GET", "/v1/sessions", "401"] == 1
    assert found["agent_session_http_request_duration_seconds_count", "GET", "/v1/sessions/{key}"] == 3
    assert found["agent_session_streams_open",] == 0
    assert not any(key in raw for key in keys)


async def test_two_gateways_of_a_process_count_apart(gateway: Door) -> None:
    async with door(gateway.service) as another:
        await another.get("/v1/sessions/none")
        theirs, ours = await counts(another), await counts(gateway)
    name = ("agent_session_http_requests_total", "GET", "/v1/sessions/{key}", "404")
    assert (theirs[name], name in ours) == (1, False)

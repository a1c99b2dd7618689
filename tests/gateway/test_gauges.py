"""What a gateway looks up for its metrics: never an old value for one that could not be had."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_session.connection import connect
from agent_session.gateway import gauges
from agent_session.gateway.gauges import Gauges
from agent_session.telemetry import metrics
from agent_session.telemetry.probes import Probe
from agent_session.transcript.volume import MARKER
from channels import missing
from tests.channels.test_slack_in_once import Wire
from tests.support import Service, fresh_key


def shown(name: str, **labels: str) -> float | None:
    """None: the metric has no such series."""
    return metrics.REGISTRY.get_sample_value(f"agent_session_{name}", labels)


async def looked(service: Service) -> Gauges:
    made = Gauges(service.temporal, service.settings)
    await made.look()
    return made


async def test_what_is_ready_is_shown(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    await looked(service)
    assert [shown("ready", part=part) for part in ("temporal", "volume", "worker")] == [1, 1, 0]
    (service.volume.root / MARKER).rename(service.volume.root / "away")
    async with service.worker():
        while shown("ready", part="worker") != 1:  # it begins to poll
            await looked(service)
    assert [shown("ready", part=part) for part in ("temporal", "volume", "worker")] == [1, 0, 1]


async def test_without_temporal_nothing_old_is_shown(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    async with Wire(service.settings.temporal.address).running() as wire:
        service.temporal = await connect(service.settings, wire.address)
        made = await looked(service)
        before = shown("backlog_tasks", queue="sessions"), shown("sessions", needs="nothing")
        assert before == (0, 0)
        wire.cut()
        made._probe._known = made._probe._connected = None  # an answer counts for a second
        await made.look()
    assert shown("ready", part="temporal") == 0
    assert shown("ready", part="worker") is None, "nobody knows"
    for name, labels in (
        ("backlog_tasks", {"queue": "sessions"}),
        ("backlog_age_seconds", {"queue": "sessions"}),
        ("sessions", {"needs": "nothing"}),
        ("needs_oldest_seconds", {"needs": "approval"}),
    ):
        assert shown(name, **labels) is None, name


async def test_a_volume_that_hangs_stops_no_look(
    make_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Service = await make_service()
    let_go, reads = threading.Event(), list[Path]()

    def hang(data_dir: Path) -> dict[str, Probe]:
        reads.append(data_dir)
        let_go.wait()
        return {}

    made = Gauges(service.temporal, service.settings)
    monkeypatch.setattr(made._probe, "_write", let_go.wait)
    monkeypatch.setattr("agent_session.gateway.probe.TRY_S", 0.3)
    monkeypatch.setattr("agent_session.gateway.gauges.probes.last_probes", hang)
    monkeypatch.setattr(gauges, "LOOK_S", 0.3)
    try:
        await made._probes()
        await made._probes()
        assert len(reads) == 1, "a thread that hangs is not joined by another at each look"
        monkeypatch.setattr(gauges, "LOOK_S", 10)
        metrics.backlog_tasks.clear()
        made._probe._known = None
        await made.look()
    finally:
        let_go.set()
    assert shown("ready", part="volume") == 0
    assert shown("backlog_tasks", queue="sessions") == 0


async def test_the_backlog_of_a_channel_whose_tokens_are_elsewhere_is_shown(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    assert missing("slack", service.settings)
    await looked(service)
    assert shown("backlog_tasks", queue="channel.slack") is None, "nobody uses it"
    async with service.worker():
        await service.ask(fresh_key(), "remember me", reply_address="slack:C0123ABCD")
        while not shown("backlog_tasks", queue="channel.slack"):
            await looked(service)
    assert shown("backlog_tasks", queue="channel.slack") == 1
    assert shown("backlog_age_seconds", queue="channel.slack") is not None


async def test_how_long_somebody_has_waited_for_a_decision(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service(tools={"ask": ["write_file"]})
    async with service.worker():
        key, made = fresh_key(), await looked(service)
        assert shown("needs_oldest_seconds", needs="approval") == 0
        await service.client.send(key, "write a.txt words", id="a")
        status = await service.until(key, lambda status: status.state == "waiting approval")
        while shown("sessions", needs="approval") != 1 or not shown("needs_oldest_seconds", needs="approval"):
            await made._sessions()  # visibility is a little late
        first = shown("needs_oldest_seconds", needs="approval")
        await made._sessions()
        later = shown("needs_oldest_seconds", needs="approval")
        assert first is not None
        assert later is not None
        assert later > first > 0
        (call,) = service.client.waiting_calls(key, status)
        await service.client.resolve(key, call["call"], call["digest"], "allow")
        await service.client.await_reply(key, "a", timeout_s=30)
        while shown("sessions", needs="approval") != 0:
            await made._sessions()
        await made._sessions()
    assert shown("needs_oldest_seconds", needs="approval") == 0

"""`agent-session probe`: one synthetic message through each channel, recorded."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agent_session.telemetry import probes
from agent_session.telemetry.probes import Probe, last_probes, record
from tests.observability.processes import Machine, machine, settings_as_environment
from tests.observability.support import forget_probes
from tests.support import Service


@pytest.fixture
async def here(make_service: Callable[..., Any]) -> AsyncIterator[tuple[Service, Machine]]:
    service: Service = await make_service()
    await forget_probes(service.temporal)
    async with machine(**settings_as_environment(service.settings)) as made:
        yield service, made


async def test_a_probe_goes_through_every_channel_and_is_recorded_and_shown(here: tuple[Service, Machine]) -> None:
    service, made = here
    await (await made.start("worker", "--all-channels")).until_ready()
    gateway = await (await made.start("gateway")).until_ready()
    done = await made.run("probe", "--json", "--timeout", "30")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["channel"]: one for one in json.loads(done.stdout)}
    assert set(found) == {"api", "http", "file"}
    assert all(one["ok"] and not one["problem"] for one in found.values())
    assert set(last_probes(service.settings.data_dir)) == set(found)
    assert len(service.said("probe/api")) == len(service.said("probe/http")) == 1
    assert "synthetic probe" in service.said("probe/http")[0]
    await gateway.stop()
    gateway = await (await made.start("gateway")).until_ready()
    assert await gateway.until_sample("agent_session_probe_success", 1, channel="http") == 1
    assert await gateway.sample("agent_session_probe_duration_seconds", channel="http") == found["http"]["seconds"]


async def test_a_channel_that_fails_is_said_recorded_and_the_exit_code(here: tuple[Service, Machine]) -> None:
    service, made = here
    done = await made.run("probe", "--timeout", "3")
    assert done.returncode == 1
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "FAILED" in rows["api"]
    assert "no reply within 3 s" in rows["api"]
    assert "nobody takes its deliveries" in rows["file"]
    assert "http" not in rows, "no gateway runs"
    assert [one.ok for one in last_probes(service.settings.data_dir).values()] == [False, False]


async def test_what_cannot_be_probed_is_refused_with_the_reason(here: tuple[Service, Machine]) -> None:
    _, made = here
    for name, why in (("slack", "slack.bot_token"), ("http", "no gateway runs on"), ("pigeon", "no such channel")):
        done = await made.run("probe", "--channel", name)
        assert done.returncode == 2
        assert why in done.stderr
        assert "can be: api, file" in done.stderr


def test_the_record_stays_small_and_survives_a_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "MOST_BYTES", 4_000)
    for number in range(100):
        record(tmp_path, [Probe(channel="api", ok=True, seconds=number, at=number)])
    record(tmp_path, [Probe(channel="http", ok=False, seconds=1, at=7, problem="it is away")])
    with open(tmp_path / probes.FILE, "ab") as file:
        file.write(b'{"channel":"api","ok"')
    assert (tmp_path / probes.FILE).stat().st_size < 4_200
    found = last_probes(tmp_path)
    assert (found["api"].at, found["http"].problem) == (99, "it is away")
    assert last_probes(tmp_path / "nowhere") == {}


def test_a_channel_that_is_no_longer_probed_is_forgotten_and_all_are_kept_when_probes_stop(tmp_path: Path) -> None:
    day = 86_400
    record(
        tmp_path,
        [Probe(channel="removed", ok=False, seconds=1, at=day), Probe(channel="api", ok=True, seconds=1, at=day)],
    )
    record(tmp_path, [Probe(channel="http", ok=True, seconds=1, at=3 * day)])
    assert set(last_probes(tmp_path)) == {"removed", "api", "http"}, "the newest is days old, and not forgotten"
    record(tmp_path, [Probe(channel="api", ok=True, seconds=1, at=4.5 * day)])
    assert set(last_probes(tmp_path)) == {"api", "http"}

"""Every query of the dashboard and of the rules, asked of a real Prometheus that has scraped real processes.

What is bad is provoked where that is cheap; a query of what did not happen names metrics that are there.
"""

import asyncio
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web

from tests.channels.test_slack_in_once import Wire
from tests.observability.processes import Machine, Process, free_port, machine, settings_as_environment
from tests.observability.support import (
    FOLDER,
    alerts,
    forget_probes,
    names_in,
    needs,
    queries_of_the_dashboard,
    records,
)
from tests.support import Service, fresh_key

WINDOW = "1m"
PATIENCE_S = 20.0
QUIET = {"temporal_request_failure_total"}  #: there when a request to Temporal has failed; the panel shows 0 else


class Prometheus:
    """One that has scraped."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def ask(self, path: str, **query: str) -> Any:
        async with aiohttp.ClientSession() as http, http.get(f"{self._url}/api/v1/{path}", params=query) as answer:
            found = await answer.json()
        assert found["status"] == "success", (query, found)
        return found["data"]

    async def rows(self, query: str) -> list[Any]:
        return (await self.ask("query", query=query))["result"]

    async def until(self, query: str) -> list[Any]:
        async with asyncio.timeout(60):
            while not (found := await self.rows(query)):
                await asyncio.sleep(0.3)
        return found


@asynccontextmanager
async def prometheus(folder: Path, *targets: Process) -> AsyncIterator[Prometheus]:
    jobs = [
        {
            "job_name": f"agent-session-{one.name}",
            "static_configs": [{"targets": [f"127.0.0.1:{one.port}"]}],
        }
        for one in targets
    ]
    shutil.copy(FOLDER / "rules.yaml", folder / "rules.yaml")
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": jobs,
        "rule_files": ["rules.yaml"],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    with open(folder / "prometheus.log", "wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=log,
            stderr=log,
        )
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/-/ready") as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                assert process.returncode is None, (folder / "prometheus.log").read_text()
                await asyncio.sleep(0.1)
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def provider_that_refuses() -> AsyncIterator[str]:
    """A model's server whose every answer is a 400."""

    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "no", "type": "invalid_request_error"}}, status=400)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def some_life(service: Service, made: Machine) -> None:
    """Turns with tools, an approval, a delivery, beats, a refused model, a roll-over, probes, code that is missing."""
    key = fresh_key()
    await service.ask(key, "write a.txt words", reply_address="file:out")
    await service.client.send(key, "run echo hi", id="asks")
    status = await service.until(key, lambda one: one.state == "waiting approval")
    (call,) = service.client.waiting_calls(key, status)
    await service.client.resolve(key, call["call"], call["digest"], "allow")
    await service.client.await_reply(key, "asks", timeout_s=30)
    await service.ask(key, "call no_such_tool {}")
    done = await made.run("heartbeat", "set", key, "--every", "1h", "--target", "none", "--yes")
    assert done.returncode == 0, done.stderr
    skipped = await made.run("heartbeat", "now", key)
    (service.volume.path_of(key) / "workspace" / "HEARTBEAT.md").write_text("look after things\n")
    assert (await made.run("heartbeat", "approve", key, "--yes")).returncode == 0
    ran = await made.run("heartbeat", "now", key)
    assert ran.returncode == 0, skipped.stderr + ran.stdout + ran.stderr
    await service.until(key, lambda one: one.beats == 1)
    await service.client.roll_over(key)
    await service.until(key, lambda one: one.roll_overs == 1)
    await service.ask(key, "/model openai-chat:gpt-none")
    failed = await service.ask(key, "hello")
    assert failed.outcome == "failed"
    await forget_probes(service.temporal)
    probed = await made.run("probe", "--timeout", "30")
    assert probed.returncode == 0, probed.stdout + probed.stderr
    await service.temporal.start_workflow("NobodysWorkflow", id=fresh_key(), task_queue=service.settings.task_queue)


@pytest.mark.timeout(280)
async def test_every_query_of_dashboard_and_rules_is_answered_from_a_real_run(
    make_service: Callable[..., Any], tmp_path: Path
) -> None:
    needs("prometheus")
    service: Service = await make_service()
    folder = tmp_path / "prometheus"
    folder.mkdir()
    async with (
        provider_that_refuses() as url,
        machine(
            **settings_as_environment(service.settings),
            AGENT_SESSION_TOOLS__ASK="shell",
            AGENT_SESSION_MODEL__NAME="offline",
            AGENT_SESSION_WORKER__CACHED_SESSIONS="1",  # so that the cache misses
            OPENAI_BASE_URL=url,
            OPENAI_API_KEY="none",
        ) as made,
    ):
        worker = await (await made.start("worker")).until_ready()
        channel = await (await made.start("channels", "run", "file")).until_ready()
        gateway = await (await made.start("gateway")).until_ready()
        async with prometheus(folder, worker, channel, gateway) as asked:
            await asked.until('up{job="agent-session-gateway"} == 1')
            await asked.until("agent_session_process_starts_total")
            await gateway.get("/v1/sessions")  # without a token
            await some_life(service, made)
            await asked.until("temporal_workflow_task_execution_failed_total")
            await gateway.stop()
            await made.start("gateway", port=gateway.port)  # it looks at the probes' record when it starts
            await asked.until("agent_session_probe_success")
            await asked.until("agent_session:replies_slow:ratio_rate5m")
            await every_query_has_data(asked)


async def test_an_outage_of_temporal_is_seen_while_no_turn_ends(
    make_service: Callable[..., Any], tmp_path: Path
) -> None:
    """No ratio of turns says so: there are none."""
    needs("prometheus")
    service: Service = await make_service()
    folder = tmp_path / "prometheus"
    folder.mkdir()
    async with Wire(service.settings.temporal.address).running() as wire:
        where = settings_as_environment(service.settings) | {"address": wire.address}
        async with machine(**where) as made:
            await (await made.start("worker")).until_ready()
            gateway = await (await made.start("gateway")).until_ready()
            async with prometheus(folder, gateway) as asked:
                await asked.until('agent_session_ready{part="temporal"} == 1')
                await asked.until('agent_session_backlog_tasks{queue="sessions"}')
                assert not await asked.rows('ALERTS{alertname="AgentSessionNotReady"}')
                wire.cut()
                await asked.until('ALERTS{alertname="AgentSessionNotReady",part="temporal"}')
                assert await gateway.sample("agent_session_backlog_tasks", queue="sessions") is None
                assert (await gateway.get("/healthz"))[0] == 200


async def every_query_has_data(asked: Prometheus) -> None:
    shown = [
        query.replace("$__rate_interval", WINDOW).replace("$namespace", ".*") for query in queries_of_the_dashboard()
    ]
    recorded = [rule["record"] for rule in records()]
    alarms = [alert["expr"] for alert in alerts()]
    measured = [re.sub(r"\s(>=|>|<|==)\s-?[0-9.]+|\sunless\s.*", "", expr, flags=re.S) for expr in alarms]
    empty = await without_data(asked, [*shown, *recorded, *measured])
    known = set(await asked.ask("label/__name__/values"))
    unknown = [name for query in shown for name in names_in(query) - QUIET - known]
    unknown += [name for expr in alarms for name in names_in(expr) - known]
    wrong = [*empty, *(f"no such metric: {name}" for name in unknown)]
    assert not wrong, "without data:\n" + "\n".join(wrong)
    loaded = [rule for group in (await asked.ask("rules"))["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in loaded} == {"ok"}


async def without_data(asked: Prometheus, queries: list[str]) -> list[str]:
    """Those that stay so: a rate wants two samples of everything."""
    until = time.monotonic() + PATIENCE_S
    while queries and time.monotonic() < until:
        queries = [query for query in queries if not await asked.rows(query)]
        await asyncio.sleep(0.3)
    return queries

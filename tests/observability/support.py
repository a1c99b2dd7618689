"""What these tests share: the files of k8s/observability, a scrape, an OTLP receiver."""

import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from temporalio.client import Client

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "k8s" / "observability"
WORDS = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
NO_METRIC = {
    "sum", "by", "rate", "increase", "max", "min", "histogram_quantile", "le", "or", "and", "vector", "time",
    "label_replace", "on", "unless", "changes", "max_over_time",
}  # fmt: skip


async def forget_probes(temporal: Client) -> None:
    """A probe's session has one name; that of another test is on a queue whose workers have gone."""
    async for found in temporal.list_workflows(
        "WorkflowId STARTS_WITH 'session/probe/' AND ExecutionStatus = 'Running'"
    ):
        await temporal.get_workflow_handle(found.id).terminate()


def needs(program: str) -> None:
    """Skip where it is not installed, unless all must run."""
    if shutil.which(program) is None:
        if os.environ.get("AGENT_TESTS_REQUIRE_ALL"):
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def records() -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "record" in rule]


def queries_of_the_dashboard() -> list[str]:
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


def names_in(query: str) -> set[str]:
    """The metrics that a query names."""
    bare = re.sub(r'"[^"]*"', "", query)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|by \([^)]*\)", "", bare)
    return {word for word in WORDS.findall(bare) if word not in NO_METRIC}


@dataclass
class Received:
    """What came over OTLP."""

    spans: list[Any] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    resources: list[dict[str, str]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    endpoint: str = ""

    def named(self, beginning: str) -> list[Any]:
        return [one for one in self.spans if one.name.startswith(beginning)]


def attributes(span: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in span.attributes:
        kind = one.value.WhichOneof("value")
        value = getattr(one.value, kind)
        found[one.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


@asynccontextmanager
async def otlp_receiver() -> AsyncIterator[Received]:
    """A collector that takes OTLP over HTTP, and keeps it."""
    received = Received()

    async def traces(request: web.Request) -> web.Response:
        body = await request.read()
        received.raw.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            received.resources.append({one.key: one.value.string_value for one in resource.resource.attributes})
            received.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response()

    async def metrics(request: web.Request) -> web.Response:
        body = await request.read()
        received.raw.append(body)
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            received.metrics |= {one.name: one for scope in resource.scope_metrics for one in scope.metrics}
        return web.Response()

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/traces", traces)
    app.router.add_post("/v1/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        received.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield received
    finally:
        await runner.cleanup()

"""The registry's metrics over OTLP, beside the traces: what Prometheus would scrape is pushed every 15 s.

The registry stays the one place that counts. OpenTelemetry's own instruments would be a second one, and its
Prometheus exporter a further library.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import Metric as Family
from prometheus_client.samples import Sample

from agent_session.telemetry import switches
from agent_session.telemetry.metrics import FURTHER, REGISTRY
from agent_session.telemetry.spans import our_version

EVERY_S = 15.0
TIMEOUT_S = 5

log = structlog.get_logger("agent_session.telemetry")
_began_ns = time.time_ns()


async def keep_exporting(endpoint: str, every_s: float = EVERY_S) -> None:
    """Until cancelled. A collector that is away costs what it missed: the counts go on."""
    exporter: Any = OTLPMetricExporter(f"{endpoint}/v1/metrics", timeout=TIMEOUT_S)
    failing = False
    while True:
        await asyncio.sleep(every_s)
        core = switches.core_metrics
        if core is not None:
            core.empty()
        outcome = await asyncio.to_thread(exporter.export, metrics_data())
        if (outcome != MetricExportResult.SUCCESS) != failing:
            failing = not failing
            log.warning("metrics do not reach the OTLP endpoint" if failing else "metrics reach the OTLP endpoint")


def metrics_data() -> MetricsData:
    """What the registries of this process hold now, as OpenTelemetry has it."""
    now = time.time_ns()
    families = (family for registry in (REGISTRY, *FURTHER) for family in registry.collect())
    found = [one for family in families if (one := _metric(family, now)) is not None]
    scope = ScopeMetrics(InstrumentationScope("agent_session", our_version()), found, "")
    resource = Resource.create({"service.name": "agent-session", "service.version": our_version()})
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(family: Family, now: int) -> Metric | None:
    unit = "s" if family.name.endswith("_seconds") else ""
    if family.type == "histogram":
        data: Any = Histogram(_histograms(family.samples, now), AggregationTemporality.CUMULATIVE)
    elif family.type == "counter":
        counts = [one for one in family.samples if one.name.endswith("_total")]
        data = Sum(_numbers(counts, now), AggregationTemporality.CUMULATIVE, is_monotonic=True)
    elif family.type == "gauge":
        data = Gauge(_numbers(family.samples, now))
    else:
        return None
    return Metric(family.name, family.documentation, unit, data) if data.data_points else None


def _numbers(samples: Iterable[Sample], now: int) -> list[NumberDataPoint]:
    return [NumberDataPoint(dict(one.labels), _began_ns, now, one.value) for one in samples]


def _histograms(samples: Sequence[Sample], now: int) -> list[HistogramDataPoint]:
    rows: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for one in samples:
        labels = tuple(sorted((name, value) for name, value in one.labels.items() if name != "le"))
        row = rows.setdefault(labels, {"edges": [], "below": [], "sum": 0.0})
        if one.name.endswith("_bucket"):
            row["below"].append(int(one.value))
            row["edges"].append(float(one.labels["le"]))
        elif one.name.endswith("_sum"):
            row["sum"] = one.value
    return [_histogram(dict(labels), row, now) for labels, row in rows.items()]


def _histogram(labels: dict[str, str], row: dict[str, Any], now: int) -> HistogramDataPoint:
    below: list[int] = row["below"]
    counts = [count - before for count, before in zip(below, [0, *below], strict=False)]
    return HistogramDataPoint(
        attributes=labels,
        start_time_unix_nano=_began_ns,
        time_unix_nano=now,
        count=below[-1],
        sum=row["sum"],
        bucket_counts=counts,
        explicit_bounds=row["edges"][:-1],
        min=float("nan"),
        max=float("nan"),
    )

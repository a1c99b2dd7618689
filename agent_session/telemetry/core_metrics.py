"""Temporal's own metrics (schedule-to-start, slots, sticky cache, requests), and what workflows record, beside ours.

The SDK's core writes them into a buffer, which is emptied here into the process's registry: one exposition, no second
port. The core's own Prometheus server would need one, and would leave nothing for OTLP. Counted are only processes
that say so before they connect (`switch_on`): a buffer that nobody empties is a leak.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, cast

import structlog
from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from temporalio.runtime import (
    BUFFERED_METRIC_KIND_COUNTER,
    BUFFERED_METRIC_KIND_GAUGE,
    BufferedMetricUpdate,
    MetricBuffer,
    MetricBufferDurationFormat,
)

from agent_session.telemetry import switches
from agent_session.telemetry.metrics import FROM_WORKFLOWS, REGISTRY

BUFFER = 200_000  #: updates; a turn makes about 100
EMPTIED_EVERY_S = 0.5
BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
LEFT_OUT = ("service_name",)

Labels = tuple[tuple[str, str], ...]

log = structlog.get_logger("agent_session.telemetry")


class Sums:
    """What one metric of Temporal's has come to, by its labels."""

    def __init__(self, kind: int, about: str) -> None:
        self.kind, self.about = kind, about
        self.values: dict[Labels, float] = {}
        self.counts: dict[Labels, list[int]] = {}  #: of a histogram: by bucket, and above the last

    def add(self, labels: Labels, value: float) -> None:
        if self.kind == BUFFERED_METRIC_KIND_GAUGE:
            self.values[labels] = value
            return
        self.values[labels] = self.values.get(labels, 0.0) + value
        if self.kind != BUFFERED_METRIC_KIND_COUNTER:
            counts = self.counts.setdefault(labels, [0] * (len(BUCKETS_S) + 1))
            counts[next((n for n, edge in enumerate(BUCKETS_S) if value <= edge), len(BUCKETS_S))] += 1


class CoreMetrics(Collector):
    """Emptied by a task of the process, and before each look."""

    def __init__(self) -> None:
        self.buffer = MetricBuffer(BUFFER, MetricBufferDurationFormat.SECONDS)
        self._sums: dict[str, Sums] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.empty()
            await asyncio.sleep(EMPTIED_EVERY_S)

    def empty(self) -> None:
        """On the event loop's thread only, so that no two empty at a time."""
        try:
            updates = self.buffer.retrieve_updates()
        except RuntimeError:
            return  # no connection yet
        for update in updates:
            self._take(update)

    def _take(self, update: BufferedMetricUpdate) -> None:
        metric = update.metric
        ours = FROM_WORKFLOWS.get(metric.name)
        if ours is not None:
            _note(ours, update)
            return
        if metric.name not in self._sums:
            self._sums[metric.name] = Sums(metric.kind, metric.description or metric.name)
        labels = sorted((name, str(value)) for name, value in update.attributes.items() if name not in LEFT_OUT)
        self._sums[metric.name].add(tuple(labels), float(update.value))

    def describe(self) -> Iterable[Metric]:
        return []  # they come and go

    def collect(self) -> Iterable[Metric]:
        for name, sums in list(self._sums.items()):
            yield _family(name, sums)


def _note(metric: Counter | Histogram, update: BufferedMetricUpdate) -> None:
    given = cast(Mapping[str, Any], update.attributes)
    names = cast(tuple[str, ...], metric._labelnames)  # pyright: ignore[reportPrivateUsage]
    child: Any = metric.labels(*(str(given.get(name, "")) for name in names)) if names else metric
    if isinstance(metric, Histogram):
        child.observe(float(update.value))
    else:
        child.inc(float(update.value))


def _family(name: str, sums: Sums) -> Metric:
    names = sorted({label for labels in sums.values for label, _ in labels})
    rows = [([dict(labels).get(one, "") for one in names], labels) for labels in list(sums.values)]
    if sums.kind == BUFFERED_METRIC_KIND_GAUGE:
        gauge = GaugeMetricFamily(name, sums.about, labels=names)
        for row, labels in rows:
            gauge.add_metric(row, sums.values[labels])
        return gauge
    if sums.kind == BUFFERED_METRIC_KIND_COUNTER:
        counter = CounterMetricFamily(name, sums.about, labels=names)
        for row, labels in rows:
            counter.add_metric(row, sums.values[labels])
        return counter
    histogram = HistogramMetricFamily(f"{name}_seconds", sums.about, labels=names)
    for row, labels in rows:
        edges, total = list[tuple[str, float]](), 0
        for edge, count in zip((*BUCKETS_S, None), sums.counts[labels], strict=True):
            total += count
            edges.append(("+Inf" if edge is None else str(edge), total))
        histogram.add_metric(row, edges, sums.values[labels])
    return histogram


def switch_on() -> CoreMetrics:
    """Count in this process; to be said before the first connection to Temporal. Again: the same."""
    if switches.core_metrics is None:
        switches.core_metrics = CoreMetrics()
        REGISTRY.register(switches.core_metrics)
    return switches.core_metrics

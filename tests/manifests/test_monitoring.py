"""Alerts that somebody loads, on jobs that somebody scrapes; and traces that reach the collector."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.manifests.network import End, lets_through, pod_of
from tests.manifests.pods import Pod, environment_of, of_kind, pods, runs_agent_session, selects
from tests.manifests.rendering import ROOT, Doc, Docs

Rendered = Callable[[str], Docs]


def ours(docs: Docs) -> list[Pod]:
    return [one for one in pods(docs) if one.serves and any(map(runs_agent_session, one.spec["containers"]))]


def jobs(monitor: Doc, pod: Pod) -> set[str]:
    """The jobs under which a pod's ports are scraped, by the monitor's relabelling."""
    found = set[str]()
    ports = {port.get("name") for one in pod.spec["containers"] for port in one.get("ports", [])}
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        for one in endpoint["relabelings"] if endpoint["port"] in ports else []:
            assert (one["sourceLabels"], one["targetLabel"]) == (
                ["__meta_kubernetes_pod_label_app_kubernetes_io_component"],
                "job",
            )
            found.add(one["replacement"].replace("$1", pod.labels["app.kubernetes.io/component"]))
    return found


def test_production_has_its_alerts_and_its_dashboard(rendered: Rendered) -> None:
    docs = rendered("production")
    (rule,) = of_kind(docs, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((ROOT / "k8s" / "observability" / "rules.yaml").read_text())
    assert any("grafana_dashboard" in one["metadata"].get("labels", {}) for one in of_kind(docs, "ConfigMap"))
    labels = [one["metadata"]["labels"].get("release") for one in of_kind(docs, "PrometheusRule", "PodMonitor")]
    assert labels == ["kube-prometheus-stack"] * 2, "one Prometheus selects both"


def test_rules_are_loaded_once_and_every_installation_is_scraped(rendered: Rendered) -> None:
    """They judge all that is scraped: loaded twice, each alert comes twice."""
    assert not of_kind(rendered("tenant"), "PrometheusRule")
    (monitor,) = of_kind(rendered("tenant"), "PodMonitor")
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"


@pytest.mark.parametrize("overlay", ["production", "tenant", "tenant-slack", "tenant-sandbox"])
def test_every_process_is_scraped_under_a_job_that_the_alerts_look_for(rendered: Rendered, overlay: str) -> None:
    docs = rendered(overlay)
    (monitor,) = of_kind(docs, "PodMonitor")
    rules = (ROOT / "k8s" / "observability" / "rules.yaml").read_text()
    looked_for = set(re.findall(r'up{job=~"([^"]+)"}', rules))
    assert looked_for
    assert len(ours(docs)) >= 2
    for pod in ours(docs):
        assert selects(monitor["spec"]["selector"], pod.labels), pod.name
        (job,) = jobs(monitor, pod)
        assert all(re.fullmatch(one, job) for one in looked_for), job


@pytest.mark.parametrize("port", [4317, 4318])
def test_traces_reach_a_collector_where_the_component_is_and_nothing_does_elsewhere(
    rendered: Rendered, port: int
) -> None:
    collector = End("monitoring", (("app.kubernetes.io/name", "opentelemetry-collector"),))
    for overlay, passes in (("tenant-slack", True), ("tenant", False)):
        docs = rendered(overlay)
        for name in ("worker", "gateway", "probe", *(["slack"] if passes else [])):
            assert lets_through(docs, pod_of(docs, "tenant-acme", name), collector, port) is passes, (overlay, name)
        redis: Any = pod_of(docs, "tenant-acme", "redis")
        assert not lets_through(docs, redis, collector, port)
        assert (environment_of(docs, "worker").get("AGENT_SESSION_TELEMETRY__OTLP_ENDPOINT") or "") == (
            "http://otel-collector.monitoring.svc:4318" if passes else ""
        )

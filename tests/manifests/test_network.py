"""Who reaches whom, by what NetworkPolicies say at both ends."""

from collections.abc import Callable

import pytest

from tests.manifests.network import End, lets_through, pod_of
from tests.manifests.rendering import Docs

Rendered = Callable[[str], Docs]
PUBLIC, METADATA, NODE, CARRIER = "8.8.8.8", "169.254.169.254", "10.20.3.4", "100.64.1.1"


def where(docs: Docs, name: str, namespace: str) -> End:
    """A pod by its component, else an address."""
    return End(address=name) if name[0].isdigit() or ":" in name else pod_of(docs, namespace, name)


@pytest.mark.parametrize(
    ("source", "target", "port", "passes"),
    [
        ("worker", "redis", 6379, True),
        ("gateway", "redis", 6379, True),
        ("slack", "redis", 6379, True),
        ("worker", PUBLIC, 443, True),
        ("worker", PUBLIC, 80, True),
        ("worker", "2606:4700::1111", 443, True),
        ("slack", PUBLIC, 443, True),
        ("worker", PUBLIC, 7233, True),  # Temporal Cloud
        ("gateway", PUBLIC, 7233, True),
        ("probe", "gateway", 18790, True),
        (NODE, "gateway", 18790, True),  # the load balancer
        ("worker", PUBLIC, 22, False),
        ("worker", PUBLIC, 25, False),
        ("worker", METADATA, 80, False),
        ("worker", NODE, 443, False),
        ("worker", CARRIER, 443, False),
        ("worker", "fd00::1", 443, False),
        ("worker", "fe80::1", 80, False),
        ("worker", "64:ff9b::a9fe:a9fe", 80, False),  # the metadata service through NAT64
        ("worker", "168.63.129.16", 80, False),
        ("worker", NODE, 7233, False),
        ("gateway", PUBLIC, 443, False),
        ("redis", PUBLIC, 443, False),
        ("redis", "worker", 9464, False),
        ("worker", "gateway", 18790, False),
        ("slack", "gateway", 18790, False),
        ("gateway", "worker", 9464, False),
        ("worker", "slack", 9464, False),
        (PUBLIC, "gateway", 18790, False),
        (NODE, "redis", 6379, False),
    ],
)
def test_production(rendered: Rendered, source: str, target: str, port: int, passes: bool) -> None:
    docs = rendered("production")
    ends = (where(docs, name, "agent-session") for name in (source, target))
    assert lets_through(docs, *ends, port) is passes


@pytest.mark.parametrize(
    ("source", "target", "port", "passes"),
    [
        ("agent-session/worker", "temporal/temporal", 7233, True),
        ("agent-session/gateway", "temporal/temporal", 7233, True),
        ("agent-session/probe", "temporal/temporal", 7233, True),
        ("agent-session/worker", "agent-session/slow", 8080, True),
        ("temporal/temporal", "temporal/postgres", 5432, True),
        ("temporal/temporal-ui", "temporal/temporal", 7233, True),
        ("temporal/register", "temporal/temporal", 7233, True),
        ("agent-session/redis", "temporal/temporal", 7233, False),
        ("agent-session/slow", "temporal/temporal", 7233, False),
        ("agent-session/worker", "temporal/postgres", 5432, False),
        ("agent-session/worker", "temporal/temporal-ui", 8080, False),
        ("agent-session/worker", "storage/nfs", 2049, False),  # nodes mount, pods do not
        ("agent-session/gateway", "agent-session/slow", 8080, False),
        ("temporal/postgres", "temporal/temporal", 7233, False),
    ],
)
def test_kind(rendered: Rendered, source: str, target: str, port: int, passes: bool) -> None:
    docs = rendered("kind")
    ends = (pod_of(docs, *name.split("/")) for name in (source, target))
    assert lets_through(docs, *ends, port) is passes


def test_every_pod_finds_names(rendered: Rendered) -> None:
    docs = rendered("kind")
    dns = End("kube-system", (("k8s-app", "kube-dns"),))
    assert lets_through(docs, pod_of(docs, "agent-session", "worker"), dns, 53, "UDP")
    assert lets_through(docs, pod_of(docs, "temporal", "temporal"), dns, 53, "UDP")


def test_a_tenant_does_not_reach_another(rendered: Rendered) -> None:
    """Not even with the same labels."""
    docs = [*rendered("tenant"), *rendered("production")]
    mine, other = pod_of(docs, "tenant-acme", "worker"), pod_of(docs, "agent-session", "redis")
    assert not lets_through(docs, mine, other, 6379)
    assert not lets_through(docs, mine, pod_of(docs, "agent-session", "gateway"), 18790)


def test_prometheus_may_look(rendered: Rendered) -> None:
    docs = rendered("production")
    prometheus = End("monitoring", (("app.kubernetes.io/name", "prometheus"),))
    assert lets_through(docs, prometheus, pod_of(docs, "agent-session", "worker"), 9464)
    assert lets_through(docs, prometheus, pod_of(docs, "agent-session", "gateway"), 18790)
    assert not lets_through(docs, prometheus, pod_of(docs, "agent-session", "redis"), 6379)

"""What the load balancer publishes, and how long it and the gateway keep connections."""

import re
from collections.abc import Callable

import pytest

from agent_session.gateway.app import ROUTES
from tests.manifests.pods import environment_of, of_kind
from tests.manifests.rendering import Doc, Docs

Rendered = Callable[[str], Docs]
WITH_INGRESS = ("production", "tenant")


def routed(ingress: Doc, path: str) -> bool:
    """As an Ingress matches: Exact, or Prefix by whole elements."""
    for rule in ingress["spec"]["rules"]:
        for one in rule["http"]["paths"]:
            prefix = one["path"].rstrip("/")
            if path == one["path"] or (one["pathType"] == "Prefix" and f"{path}/".startswith(f"{prefix}/")):
                return True
    return False


@pytest.mark.parametrize("overlay", WITH_INGRESS)
def test_everything_is_published_but_the_metrics(rendered: Rendered, overlay: str) -> None:
    """They need no token."""
    (ingress,) = of_kind(rendered(overlay), "Ingress")
    paths = {re.sub(r"{[^}]*}", "x", route.path) for route in ROUTES}
    assert {path for path in paths if not routed(ingress, path)} == {"/metrics"}


@pytest.mark.parametrize("overlay", WITH_INGRESS)
def test_the_gateway_keeps_connections_for_longer_than_the_load_balancer(rendered: Rendered, overlay: str) -> None:
    """Else it closes one that the load balancer is about to use, which answers 502."""
    docs = rendered(overlay)
    (ingress,) = of_kind(docs, "Ingress")
    attributes = ingress["metadata"]["annotations"]["alb.ingress.kubernetes.io/load-balancer-attributes"]
    idle = re.search(r"idle_timeout\.timeout_seconds=(\d+)", attributes)
    assert idle
    assert float(environment_of(docs, "gateway")["AGENT_SESSION_GATEWAY__KEEP_ALIVE_S"]) > float(idle[1])


@pytest.mark.parametrize("overlay", WITH_INGRESS)
def test_the_load_balancer_asks_what_the_pods_are_asked(rendered: Rendered, overlay: str) -> None:
    (ingress,) = of_kind(rendered(overlay), "Ingress")
    assert ingress["metadata"]["annotations"]["alb.ingress.kubernetes.io/healthcheck-path"] == "/readyz?for=gateway"

"""What NetworkPolicies let through, as Kubernetes reads them."""

import ipaddress
from dataclasses import dataclass

from tests.manifests.pods import of_kind, pods, selects
from tests.manifests.policies import RULES, rule
from tests.manifests.rendering import Doc, Docs

#: what no pod that reaches the internet may reach with it
NEVER_V4 = ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
NEVER_V6 = ("fc00::/7", "fe80::/10")


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod, or an address outside of the cluster."""

    namespace: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    address: str = ""


def pod_of(docs: Docs, namespace: str, component: str) -> End:
    keys = ("app.kubernetes.io/component", "app.kubernetes.io/name")
    for one in pods(docs):
        if one.namespace == namespace and component in [one.labels.get(key) for key in keys]:
            return End(namespace, tuple(one.labels.items()))
    raise KeyError(f"no pod {component} in {namespace}")


def lets_through(docs: Docs, source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Both ends must agree; an address outside agrees to everything."""
    leaves = not source.namespace or _allows(docs, source, target, port, protocol, "Egress", "egress", "to")
    return leaves and (
        not target.namespace or _allows(docs, target, source, port, protocol, "Ingress", "ingress", "from")
    )


def _allows(docs: Docs, pod: End, other: End, port: int, protocol: str, kind: str, field: str, peers: str) -> bool:
    policies = [
        one["spec"]
        for one in of_kind(docs, "NetworkPolicy")
        if one["metadata"]["namespace"] == pod.namespace
        and kind in one["spec"]["policyTypes"]
        and selects(one["spec"]["podSelector"], dict(pod.labels))
    ]
    if not policies:
        return True  # no policy selects it: everything passes
    for one in policies:
        for allowed in one.get(field, []):
            ports = allowed.get("ports")
            if ports and not any((p["port"], p.get("protocol", "TCP")) == (port, protocol) for p in ports):
                continue
            if peers not in allowed or any(_is(peer, other, pod.namespace) for peer in allowed[peers]):
                return True
    return False


def _is(peer: Doc, end: End, own_namespace: str) -> bool:
    if "ipBlock" in peer:
        if not end.address:
            return False
        address = ipaddress.ip_address(end.address)
        inside = address in ipaddress.ip_network(peer["ipBlock"]["cidr"])
        return inside and not any(address in ipaddress.ip_network(one) for one in peer["ipBlock"].get("except", []))
    if not end.namespace:
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": end.namespace}):
            return False
    elif end.namespace != own_namespace:
        return False
    return selects(peer.get("podSelector", {}), dict(end.labels))


@rule
def every_pod_begins_with_nothing_allowed(docs: Docs) -> list[str]:
    closed = {
        one["metadata"]["namespace"]
        for one in of_kind(docs, "NetworkPolicy")
        if one["spec"]["podSelector"] == {}
        and set(one["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not one["spec"].get("ingress")
        and not one["spec"].get("egress")
    }
    # what is set up later lives in a namespace that an overlay has closed
    return [f"{pod.name}: no default deny" for pod in pods(docs) if pod.namespace not in closed and pod.kind != "Job"]


@rule
def the_internet_is_public_addresses(docs: Docs) -> list[str]:
    """And every exception lies strictly inside its block, of the same family: the API server refuses others."""
    found: list[str] = []
    for doc in of_kind(docs, "NetworkPolicy"):
        name = f"{doc['metadata']['namespace']}/{doc['metadata']['name']}"
        for block in [peer["ipBlock"] for peer in _peers(doc["spec"]) if "ipBlock" in peer]:
            whole = ipaddress.ip_network(block["cidr"])
            without = [ipaddress.ip_network(one) for one in block.get("except", [])]
            for one in without:
                if one.version != whole.version or one == whole or not one.subnet_of(whole):  # type: ignore[arg-type]
                    found.append(f"{name}: {one} is not inside {whole}")
            if whole.prefixlen == 0:
                never = NEVER_V4 if whole.version == 4 else NEVER_V6
                missing = [one for one in never if not any(_covers(w, one) for w in without)]
                found += [f"{name}: reaches {one}" for one in missing]
    return found


def _covers(block: ipaddress.IPv4Network | ipaddress.IPv6Network, other: str) -> bool:
    inner = ipaddress.ip_network(other)
    return inner.version == block.version and inner.subnet_of(block)  # type: ignore[arg-type]


def _peers(spec: Doc) -> list[Doc]:
    return [
        *(peer for one in spec.get("ingress", []) for peer in one.get("from", [])),
        *(peer for one in spec.get("egress", []) for peer in one.get("to", [])),
    ]


@rule
def nobody_may_speak_with_everybody(docs: Docs) -> list[str]:
    found: list[str] = []
    for doc in of_kind(docs, "NetworkPolicy"):
        name = f"{doc['metadata']['namespace']}/{doc['metadata']['name']}"
        for field, peers in (("ingress", "from"), ("egress", "to")):
            for one in doc["spec"].get(field, []):
                if (not one.get(peers) and name != "storage/nfs") or not one.get("ports"):
                    found.append(f"{name}: {field} without {'ports' if one.get(peers) else 'peers'}")
    return found


@rule
def every_network_policy_is_about_somebody(docs: Docs) -> list[str]:
    return [
        f"{doc['metadata']['namespace']}/{doc['metadata']['name']}: selects no Pod"
        for doc in of_kind(docs, "NetworkPolicy")
        if not any(
            pod.namespace == doc["metadata"]["namespace"] and selects(doc["spec"]["podSelector"], pod.labels)
            for pod in pods(docs)
        )
    ]


__all__ = ["RULES", "End", "lets_through", "pod_of"]

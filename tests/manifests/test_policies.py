"""Every rule holds for every overlay, and each finds a violation that is planted."""

import copy
from collections.abc import Callable

import pytest

from tests.manifests.network import RULES
from tests.manifests.pods import Pod, of_kind, pods
from tests.manifests.rendering import ALL, Doc, Docs

Rendered = Callable[[str], Docs]
Plant = Callable[[Docs], object]


@pytest.mark.parametrize("overlay", ALL)
@pytest.mark.parametrize("name", RULES)
def test_a_rule_holds(rendered: Rendered, overlay: str, name: str) -> None:
    assert RULES[name](rendered(overlay)) == []


def pod(docs: Docs, name: str, namespace: str = "tenant-acme") -> Pod:
    return next(
        one for one in pods(docs) if one.made_by["metadata"]["name"] == name and one.namespace in (namespace, "storage")
    )


def first(docs: Docs, name: str) -> Doc:
    return pod(docs, name).spec["containers"][0]


def named(docs: Docs, kind: str, name: str) -> Doc:
    return next(one for one in of_kind(docs, kind) if one["metadata"]["name"].startswith(name))


def without(docs: Docs, kind: str, name: str) -> None:
    docs.remove(named(docs, kind, name))


def set_env(docs: Docs, name: str, variable: str, value: str) -> None:
    first(docs, name).setdefault("env", []).append({"name": variable, "value": value})


def settings(docs: Docs) -> dict[str, str]:
    return named(docs, "ConfigMap", "settings")["data"]


def ports_of(docs: Docs, policy: str) -> Doc:
    return named(docs, "NetworkPolicy", policy)["spec"]["egress"][0]


def excepted(docs: Docs, index: int = 0) -> list[str]:
    return ports_of(docs, "to-the-internet")["to"][index]["ipBlock"]["except"]


PLANTED: list[tuple[str, str, Plant]] = [
    ("images_are_pinned", "a tag that moves", lambda d: first(d, "redis").update(image="redis:latest")),
    ("images_are_pinned", "no tag", lambda d: first(d, "redis").update(image="registry.example:5000/redis")),
    (
        "containers_say_what_they_need_and_may_take",
        "no limits",
        lambda d: first(d, "worker")["resources"].pop("limits"),
    ),
    (
        "containers_say_what_they_need_and_may_take",
        "an init container without",
        lambda d: pod(d, "gateway").spec["initContainers"][0].pop("resources"),
    ),
    ("servers_are_probed", "no probe", lambda d: first(d, "redis").pop("livenessProbe")),
    (
        "servers_are_probed",
        "Temporal away restarts all",
        lambda d: first(d, "worker")["livenessProbe"]["httpGet"].update(path="/readyz"),
    ),
    (
        "servers_are_probed",
        "no gateway while no worker polls",
        lambda d: first(d, "gateway")["readinessProbe"]["httpGet"].update(path="/readyz"),
    ),
    ("pods_are_restricted", "root", lambda d: pod(d, "slack").spec["securityContext"].update(runAsUser=0)),
    ("pods_are_restricted", "no user", lambda d: pod(d, "slack").spec.pop("securityContext")),
    (
        "pods_are_restricted",
        "no seccomp",
        lambda d: pod(d, "worker").spec["securityContext"].update(seccompProfile={"type": "Unconfined"}),
    ),
    (
        "pods_are_restricted",
        "a writable root",
        lambda d: first(d, "probe")["securityContext"].update(readOnlyRootFilesystem=False),
    ),
    (
        "pods_are_restricted",
        "a capability",
        lambda d: first(d, "gateway")["securityContext"]["capabilities"].update(add=["NET_ADMIN"]),
    ),
    ("pods_share_nothing_of_their_host", "the network", lambda d: pod(d, "worker").spec.update(hostNetwork=True)),
    (
        "pods_share_nothing_of_their_host",
        "a path",
        lambda d: pod(d, "worker").spec["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    ),
    (
        "pods_have_an_account_of_their_own_and_no_token",
        "a token",
        lambda d: pod(d, "worker").spec.pop("automountServiceAccountToken"),
    ),
    (
        "pods_have_an_account_of_their_own_and_no_token",
        "the default account",
        lambda d: pod(d, "worker").spec.pop("serviceAccountName"),
    ),
    (
        "rights_in_the_api_are_few",
        "a role",
        lambda d: d.append(
            {
                "kind": "Role",
                "metadata": {"name": "all", "namespace": "tenant-acme"},
                "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}],
            }
        ),
    ),
    ("nothing_is_a_bare_shell", "a shell tool", lambda d: set_env(d, "worker", "AGENT_SESSION_TOOLS__OFF", "shell")),
    ("nothing_is_a_bare_shell", "no list", lambda d: settings(d).pop("AGENT_SESSION_TOOLS__OFF")),
    (
        "nothing_is_a_bare_shell",
        "unconfined",
        lambda d: settings(d).update(AGENT_SESSION_TOOLS__SHELL__SANDBOX="none"),
    ),
    (
        "nothing_is_a_bare_shell",
        "a script",
        lambda d: first(d, "worker").update(command=["/bin/sh", "-c"], args=["agent-session worker"]),
    ),
    ("no_secret_is_written_down", "a variable", lambda d: set_env(d, "worker", "OPENAI_API_KEY", "sk-1")),
    ("no_secret_is_written_down", "a setting", lambda d: settings(d).update(AGENT_SESSION_GATEWAY__TOKEN="t")),
    (
        "no_secret_is_written_down",
        "a manifest",
        lambda d: d.append({"kind": "Secret", "metadata": {"name": "mine", "namespace": "tenant-acme"}, "data": {}}),
    ),
    (
        "what_is_replicated_has_a_budget_that_lets_nodes_drain",
        "no budget",
        lambda d: without(d, "PodDisruptionBudget", "worker"),
    ),
    (
        "what_is_replicated_has_a_budget_that_lets_nodes_drain",
        "a budget that lets nothing go",
        lambda d: named(d, "PodDisruptionBudget", "gateway").update(
            spec={"minAvailable": 2, "selector": {"matchLabels": {"app.kubernetes.io/component": "gateway"}}}
        ),
    ),
    ("what_is_replicated_is_spread", "one node", lambda d: pod(d, "worker").spec.pop("topologySpreadConstraints")),
    (
        "a_drain_ends_before_the_pod_is_killed",
        "killed in the drain",
        lambda d: settings(d).update(AGENT_SESSION_WORKER__GRACEFUL_STOP_S="600"),
    ),
    ("a_drain_ends_before_the_pod_is_killed", "no preStop", lambda d: first(d, "gateway").pop("lifecycle")),
    (
        "a_drain_ends_before_the_pod_is_killed",
        "the default grace",
        lambda d: pod(d, "worker").spec.pop("terminationGracePeriodSeconds"),
    ),
    (
        "servers_of_ours_say_where_their_metrics_are",
        "nothing",
        lambda d: pod(d, "worker").template["metadata"].pop("annotations"),
    ),
    (
        "servers_of_ours_say_where_their_metrics_are",
        "another port",
        lambda d: pod(d, "gateway").template["metadata"]["annotations"].update({"prometheus.io/port": "9464"}),
    ),
    ("no_service_puts_variables_into_a_pod", "links", lambda d: pod(d, "worker").spec.pop("enableServiceLinks")),
    (
        "our_processes_share_the_volume_and_the_key",
        "another directory",
        lambda d: set_env(d, "gateway", "AGENT_SESSION_DATA_DIR", "/data"),
    ),
    (
        "our_processes_share_the_volume_and_the_key",
        "no key",
        lambda d: first(d, "worker")["volumeMounts"].pop(),
    ),
    ("what_is_named_is_there", "a Secret", lambda d: without(d, "Secret", "signing-key")),
    ("what_is_named_is_there", "a claim", lambda d: without(d, "PersistentVolumeClaim", "data")),
    (
        "what_is_named_is_there",
        "a name without its hash",
        lambda d: pod(d, "worker").spec["volumes"][-1].update(secret={"secretName": "signing-key"}),
    ),
    (
        "what_is_named_is_there",
        "a Service of nobody",
        lambda d: named(d, "Service", "gateway")["spec"].update(selector={"app": "gone"}),
    ),
    (
        "what_is_named_is_there",
        "a target of nobody",
        lambda d: named(d, "ScaledObject", "worker")["spec"]["scaleTargetRef"].update(name="workers"),
    ),
    (
        "one_version_of_us_runs",
        "two",
        lambda d: first(d, "gateway").update(image="ghcr.io/agent-session/agent-session:0.0.1"),
    ),
    ("every_pod_begins_with_nothing_allowed", "open", lambda d: without(d, "NetworkPolicy", "default-deny")),
    ("the_internet_is_public_addresses", "metadata", lambda d: excepted(d).remove("169.254.0.0/16")),
    ("the_internet_is_public_addresses", "carriers", lambda d: excepted(d).remove("100.64.0.0/10")),
    ("the_internet_is_public_addresses", "private IPv6", lambda d: excepted(d, 1).remove("fc00::/7")),
    ("the_internet_is_public_addresses", "what the API refuses", lambda d: excepted(d).append("fc00::/8")),
    ("nobody_may_speak_with_everybody", "no peers", lambda d: ports_of(d, "to-redis").pop("to")),
    ("nobody_may_speak_with_everybody", "no ports", lambda d: ports_of(d, "to-redis").pop("ports")),
    (
        "every_network_policy_is_about_somebody",
        "nobody",
        lambda d: named(d, "NetworkPolicy", "redis")["spec"].update(podSelector={"matchLabels": {"app": "gone"}}),
    ),
]


@pytest.mark.parametrize(("name", "what", "plant"), PLANTED, ids=[f"{name}-{what}" for name, what, _ in PLANTED])
def test_a_planted_violation_is_found(rendered: Rendered, name: str, what: str, plant: Plant) -> None:
    docs = copy.deepcopy(rendered("tenant-slack"))
    plant(docs)
    assert RULES[name](docs), f"{what}: not found"


def test_every_rule_has_a_planted_violation() -> None:
    assert {name for name, _, _ in PLANTED} == set(RULES)

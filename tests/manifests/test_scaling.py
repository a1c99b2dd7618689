"""What scales workers is what docs/scaling.md simulates, and what stops old builds is let do so."""

import re
from collections.abc import Callable

import pytest

from bench.scale.__main__ import DOCUMENT
from bench.scale.arithmetic import need_of
from bench.scale.days import rules
from bench.scale.figures import read
from bench.scale.scaler import Rule
from tests.manifests.pods import environment_of, of_kind, pods, scaled_in
from tests.manifests.rendering import OVERLAYS, Doc, Docs

Rendered = Callable[[str], Docs]
ZERO = re.compile(r"^0(s|m|h)$")


def rule_of(scaled: Doc, slots: float) -> Rule:
    """A ScaledObject as the simulation takes it."""
    behavior = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    up = {one["type"]: one for one in behavior["scaleUp"]["policies"]}
    (down,) = behavior["scaleDown"]["policies"]
    asked = {one["type"]: one["metadata"] for one in scaled["triggers"]}
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert {one["periodSeconds"] for one in up.values()} == {scaled["pollingInterval"]}
    return Rule(
        least=scaled["minReplicaCount"],
        most=scaled["maxReplicaCount"],
        round_s=scaled["pollingInterval"],
        backlog_target=float(asked["temporal"]["targetQueueSize"]),
        slots_target=float(asked["prometheus"]["threshold"]) / slots if "prometheus" in asked else 0.0,
        settle_s=behavior["scaleDown"]["stabilizationWindowSeconds"],
        up_pods=up["Pods"]["value"],
        up_factor=1 + up["Percent"]["value"] / 100,
        down_share=down["value"] / 100,
        down_period_s=down["periodSeconds"],
    )


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_workers_have_the_slots_that_the_arithmetic_reckons_with(rendered: Rendered, overlay: str) -> None:
    given = environment_of(rendered(overlay), "worker")
    assert float(given["AGENT_SESSION_WORKER__CONCURRENT_ACTIVITIES"]) == read()("worker_slots")


@pytest.mark.parametrize(
    ("overlay", "day"), [("tenant", "backlog and slots"), ("production", "versioned: backlog alone")]
)
def test_the_simulated_rules_are_those_that_are_shipped(rendered: Rendered, overlay: str, day: str) -> None:
    shipped, simulated = rule_of(scaled_in(rendered(overlay)), read()("worker_slots")), rules()[day]
    if overlay == "tenant":  # its quota has room for six
        assert shipped.most == 6
        shipped = Rule(**(vars(shipped) | {"most": simulated.most}))
    assert shipped == simulated


def test_slots_in_use_are_those_of_the_workers_that_are_scaled(rendered: Rendered) -> None:
    """By the labels that the metric has: another tenant's workers must not scale ours."""
    docs = rendered("tenant")
    asked = next(one["metadata"] for one in scaled_in(docs)["triggers"] if one["type"] == "prometheus")
    queue = environment_of(docs, "worker")["AGENT_SESSION_TASK_QUEUE"]
    wanted = f'temporal_worker_task_slots_used{{worker_type="ActivityWorker",task_queue="{queue}"}}'
    assert asked["query"] == f"sum({wanted})"
    assert asked["ignoreNullValues"] == "false", "a Prometheus that finds nothing would take the workers away"
    assert of_kind(docs, "PodMonitor"), "nobody scrapes what the trigger asks for"


def test_a_drained_build_is_deleted_as_soon_as_it_is_scaled_down(rendered: Rendered) -> None:
    """Its ScaledObject lives as long as its Deployment, and would bring it back to the minimum."""
    docs = rendered("production")
    (workers,) = of_kind(docs, "WorkerDeployment")
    assert scaled_in(docs)["minReplicaCount"] > 0
    assert ZERO.match(workers["spec"]["sunset"]["deleteDelay"])
    assert not ZERO.match(workers["spec"]["sunset"]["scaledownDelay"])


def test_a_full_node_keeps_no_worker_from_starting_but_in_the_demo(rendered: Rendered) -> None:
    for overlay, wanted in (("production", "ScheduleAnyway"), ("tenant", "ScheduleAnyway"), ("kind", "DoNotSchedule")):
        worker = next(one for one in pods(rendered(overlay)) if one.made_by["metadata"]["name"] == "worker")
        by_node = next(
            one for one in worker.spec["topologySpreadConstraints"] if one["topologyKey"] == "kubernetes.io/hostname"
        )
        assert by_node["whenUnsatisfiable"] == wanted, overlay


def test_the_advice_has_the_workers_of_the_table() -> None:
    """What docs/scaling.md says in words, beside the numbers that are printed into it."""
    advised = re.search(r"^\| 1 million \| (\d+) workers", DOCUMENT.read_text(), re.MULTILINE)
    assert advised
    assert int(advised[1]) == need_of(read(), 1_000_000, 2).workers

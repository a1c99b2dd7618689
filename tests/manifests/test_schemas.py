"""Every document against its schema, strictly: Kubernetes' own, and those of the custom resources (crds/README.md)."""

import copy
import json
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.manifests.pods import TEMPLATES, of_kind
from tests.manifests.rendering import ALL, OVERLAYS, Doc, Docs

Rendered = Callable[[str], Docs]
CRDS = Path(__file__).parent / "crds"
KUBERNETES = ("1.31", "1.34")  #: the oldest that docs/kubernetes.md promises, and a newer one
CUSTOM = {path.stem for path in CRDS.glob("*.yaml")}


def check(doc: Doc, version: str = KUBERNETES[-1]) -> None:
    """Errors: AssertionError, with what is wrong where."""
    if doc["kind"] in CUSTOM:
        check_custom(doc)
        for inner in inside(doc):
            check(inner, version)
        return
    problem = of_kubernetes(json.dumps(doc, sort_keys=True), version)
    assert not problem, f"{doc['kind']} {doc['metadata'].get('name')}: {problem}"


@cache  # overlays have much in common
def of_kubernetes(document: str, version: str) -> str:
    """What is wrong where; empty: nothing."""
    try:
        kubernetes_validate.validate(json.loads(document), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(str(part) for part in error.path)}: {error.message}"
    return ""


def check_custom(doc: Doc) -> None:
    schema = yaml.safe_load((CRDS / f"{doc['kind']}.yaml").read_text())
    assert doc["apiVersion"] == schema["apiVersion"]
    validate(doc, schema["spec"])
    if theirs():
        crd = theirs().get((doc["apiVersion"], doc["kind"]))
        assert crd is not None, f"no CRD of {doc['apiVersion']} {doc['kind']} in AGENT_TESTS_CRDS"
        validate(doc, crd)


def validate(doc: Doc, schema: dict[str, Any]) -> None:
    errors = [
        f"{'.'.join(str(part) for part in one.absolute_path)}: {one.message}"
        for one in jsonschema.Draft202012Validator(schema).iter_errors(doc["spec"])
    ]
    assert not errors, f"{doc['kind']} {doc['metadata']['name']}: {'; '.join(errors)[:1000]}"


@cache
def theirs() -> dict[tuple[str, str], dict[str, Any]]:
    """The projects' own CRDs, made strict, when somebody has them at hand."""
    folder = os.environ.get("AGENT_TESTS_CRDS", "")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted(Path(folder).glob("*.yaml")) if folder else []:
        crd = yaml.safe_load(path.read_text())["spec"]
        for version in crd["versions"]:
            schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
            found[f"{crd['group']}/{version['name']}", crd["names"]["kind"]] = strict(schema)
    return found


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """As the API server with field validation: an unknown field is an error."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return {}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    made = {key: value for key, value in schema.items() if key not in ("properties", "items", "format")}
    if "properties" in schema:
        made["properties"] = {name: strict(one) for name, one in schema["properties"].items()}
        made["additionalProperties"] = False
    if "items" in schema:
        made["items"] = strict(schema["items"])
    return made


def inside(doc: Doc) -> Iterator[Doc]:
    """Kubernetes' own resources within a custom one, with what its controller fills in."""
    if doc["kind"] in TEMPLATES:
        template: Any = doc
        for part in TEMPLATES[doc["kind"]]:
            template = template[part]
        yield {"apiVersion": "v1", "kind": "Pod", "metadata": template.get("metadata", {}), "spec": template["spec"]}
    if doc["kind"] == "WorkerResourceTemplate":
        made = copy.deepcopy(doc["spec"]["template"])
        made["metadata"] = {"name": doc["metadata"]["name"]}
        assert made["spec"]["scaleTargetRef"] == {}, "the controller's to fill in"
        made["spec"]["scaleTargetRef"] = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker-1"}
        yield made
    if doc["kind"] == "ScaledObject":
        behavior = doc["spec"].get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior")
        if behavior:
            spec = {"scaleTargetRef": doc["spec"]["scaleTargetRef"], "maxReplicas": 1, "behavior": behavior}
            metadata = {"name": doc["metadata"]["name"]}
            yield {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": metadata,
                "spec": spec,
            }


@pytest.mark.parametrize(
    ("overlay", "version"),
    [*((name, KUBERNETES[-1]) for name in ALL), *((name, KUBERNETES[0]) for name in OVERLAYS)],
)
def test_every_document_is_valid(rendered: Rendered, overlay: str, version: str) -> None:
    for doc in rendered(overlay):
        check(doc, version)


def test_every_schema_of_ours_is_used(rendered: Rendered) -> None:
    assert {one["kind"] for overlay in ALL for one in rendered(overlay)} >= CUSTOM


#: a typing error in each kind that has a schema, by the path of a field that is renamed
TYPOS = [
    ("production", "WorkerDeployment", "spec.rollout.steps"),
    ("production", "WorkerDeployment", "spec.template.spec.containers"),
    ("production", "WorkerResourceTemplate", "spec.template.spec.triggers"),
    ("production", "WorkerResourceTemplate", "spec.workerDeploymentRef"),
    ("production", "Connection", "spec.apiKeySecretRef"),
    ("production", "PodMonitor", "spec.selector.matchExpressions"),
    ("production", "PrometheusRule", "spec.groups"),
    ("production", "Deployment", "spec.template.spec.topologySpreadConstraints"),
    ("production", "NetworkPolicy", "spec.podSelector"),
    ("production", "Ingress", "spec.ingressClassName"),
    ("tenant", "ScaledObject", "spec.minReplicaCount"),
    ("tenant", "ScaledObject", "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown"),
    ("tenant", "TriggerAuthentication", "spec.secretTargetRef"),
    ("tenant-sandbox", "SandboxTemplate", "spec.podTemplate.spec.runtimeClassName"),
    ("tenant-sandbox", "SandboxWarmPool", "spec.sandboxTemplateRef"),
    ("tenant-hpa", "HorizontalPodAutoscaler", "spec.metrics"),
]


@pytest.mark.parametrize(("overlay", "kind", "path"), TYPOS)
def test_a_field_with_a_wrong_name_is_found(rendered: Rendered, overlay: str, kind: str, path: str) -> None:
    doc = copy.deepcopy(of_kind(rendered(overlay), kind)[0])
    *above, last = path.split(".")
    node: Any = doc
    for part in above:
        node = node[part]
    node[f"{last}x"] = node.pop(last)
    with pytest.raises(AssertionError):
        check(doc)

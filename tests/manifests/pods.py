"""What runs: every Pod that the documents of an overlay bring forth, whatever kind makes it."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.manifests.rendering import Doc, Docs

SERVERS = ("Deployment", "StatefulSet", "WorkerDeployment", "SandboxTemplate")
#: the path of the Pod's template
TEMPLATES = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "WorkerDeployment": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
    "SandboxTemplate": ("spec", "podTemplate"),
}
IMAGES = ("ghcr.io/agent-session/agent-session", "localhost/agent-session")


@dataclass(frozen=True)
class Pod:
    made_by: Doc
    template: Doc

    @property
    def kind(self) -> str:
        return self.made_by["kind"]

    @property
    def name(self) -> str:
        return f"{self.kind} {self.namespace}/{self.made_by['metadata']['name']}"

    @property
    def namespace(self) -> str:
        return self.made_by["metadata"].get("namespace", "")

    @property
    def labels(self) -> dict[str, str]:
        return self.template.get("metadata", {}).get("labels", {})

    @property
    def spec(self) -> Doc:
        return self.template["spec"]

    @property
    def serves(self) -> bool:
        """It runs until it is stopped."""
        return self.kind in SERVERS

    @cached_property
    def containers(self) -> list[Doc]:
        """Those that start things, too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def replicas(self) -> int:
        """As the documents have it; None is an autoscaler's to say, which keeps two at least."""
        if self.kind == "SandboxTemplate":
            return 2
        given = self.made_by["spec"].get("replicas")
        return 2 if given is None and self.kind in ("Deployment", "WorkerDeployment") else int(given or 1)


def pods(docs: Docs) -> list[Pod]:
    return list(_pods(docs))


def _pods(docs: Docs) -> Iterator[Pod]:
    for doc in docs:
        if doc["kind"] in TEMPLATES:
            template: Any = doc
            for part in TEMPLATES[doc["kind"]]:
                template = template[part]
            yield Pod(doc, template)


def of_kind(docs: Docs, *kinds: str) -> Docs:
    return [doc for doc in docs if doc["kind"] in kinds]


def is_ours(container: Doc) -> bool:
    return container["image"].rpartition(":")[0] in IMAGES


def runs_agent_session(container: Doc) -> bool:
    """Ours, by its entry point: not a script or a tool of the image."""
    return is_ours(container) and "command" not in container


def environment(container: Doc, namespace: str, docs: Docs) -> dict[str, str]:
    """What the process sees, values of Secrets included. Errors: KeyError, for something that is nowhere."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if field in source:
                found |= data_of(docs, kind, namespace, source[field]["name"])
    for one in container.get("env", []):
        given = one.get("valueFrom", {})
        if "secretKeyRef" in given:
            name, key = given["secretKeyRef"]["name"], given["secretKeyRef"]["key"]
            found[one["name"]] = data_of(docs, "Secret", namespace, name)[key]
        elif "fieldRef" in given:
            found[one["name"]] = "of-the-pod"
        else:
            found[one["name"]] = str(one["value"])
    return found


def data_of(docs: Docs, kind: str, namespace: str, name: str) -> dict[str, str]:
    for doc in of_kind(docs, kind):
        if (doc["metadata"]["name"], doc["metadata"].get("namespace", "")) == (name, namespace):
            data: dict[str, str] = doc.get("data") or {}
            return {key: base64.b64decode(text).decode() for key, text in data.items()} if kind == "Secret" else data
    raise KeyError(f"{kind} {namespace}/{name} is nowhere")


def selects(selector: Doc, labels: dict[str, str]) -> bool:
    """A Kubernetes label selector."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for one in selector.get("matchExpressions") or []:
        assert one["operator"] == "In", one
        if labels.get(one["key"]) not in one["values"]:
            return False
    return True


def environment_of(docs: Docs, role: str) -> dict[str, str]:
    """Of the first container that has this role (worker, gateway, …)."""
    return next(
        environment(one, pod.namespace, docs)
        for pod in pods(docs)
        for one in pod.spec["containers"]
        if runs_agent_session(one) and one["args"][0] == role
    )


def scaled_in(docs: Docs) -> Doc:
    """The ScaledObject's spec, or that of the one that the worker controller makes for each build."""
    found = [one["spec"] for one in of_kind(docs, "ScaledObject")]
    found += [one["spec"]["template"]["spec"] for one in of_kind(docs, "WorkerResourceTemplate")]
    (spec,) = found
    return spec

"""Overlays rendered as `kubectl apply -k` would send them, from a copy with secret files made for the occasion."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.k8s_secrets import YOURS, make_all
from scripts.kubectl import Cannot, kubectl

ROOT = Path(__file__).parents[2]
Doc = dict[str, Any]
Docs = list[Doc]

OVERLAYS = ("kind", "production", "tenant")
SETUPS = ("production/setup", "tenant/setup")
#: what no overlay of ours shows: a component on an overlay, as docs/kubernetes.md has people do
VARIANTS = {
    "tenant-hpa": ("tenant", ["hpa"], {"keda"}),
    "tenant-slack": ("tenant", ["slack", "otel"], set[str]()),
    "tenant-sandbox": ("tenant", ["agent-sandbox"], {"keda"}),
}
ALL = (*OVERLAYS, *SETUPS, *VARIANTS)


def find_kubectl() -> str:
    try:
        return kubectl()
    except Cannot as error:
        if os.environ.get("AGENT_TESTS_REQUIRE_ALL"):
            raise
        pytest.skip(str(error))


def copy_with_secrets(to: Path) -> Path:
    """k8s/ with every secret file that its overlays name. Nothing of the developer's own secrets is copied."""
    copied = to / "k8s"
    shutil.copytree(ROOT / "k8s", copied, ignore=shutil.ignore_patterns("secrets"))
    for name, (overlay, components, without) in VARIANTS.items():
        make_variant(copied / "overlays", name, overlay, components, without)
    for overlay in (*OVERLAYS, *VARIANTS):
        for path in make_all(copied / "overlays" / overlay)[1]:
            path.write_text(dummy(path.name))
    return copied


def dummy(name: str) -> str:
    assert name in YOURS, f"scripts/k8s_secrets.py does not know what {name} is"
    if name == "slack.env":
        return "AGENT_SESSION_SLACK__BOT_TOKEN=xoxb-test\nAGENT_SESSION_SLACK__APP_TOKEN=xapp-test\n"
    return "test-key"


def make_variant(overlays: Path, name: str, overlay: str, components: list[str], without: set[str]) -> None:
    """A copy of an overlay with other components."""
    shutil.copytree(overlays / overlay, overlays / name)
    path = overlays / name / "kustomization.yaml"
    tree = yaml.safe_load(path.read_text())
    kept = [one for one in tree["components"] if Path(one).name not in without]
    tree["components"] = [*(f"../../components/{one}" for one in components), *kept]
    if "keda" in without:
        tree["patches"] = [one for one in tree["patches"] if one.get("target", {}).get("kind") != "ScaledObject"]
    if "slack" in components:
        tree["secretGenerator"].append({"name": "slack-tokens", "envs": ["secrets/slack.env"]})
    path.write_text(yaml.safe_dump(tree))


def render(folder: Path) -> Docs:
    done = subprocess.run([find_kubectl(), "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]

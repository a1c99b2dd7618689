"""What the overlays are made of, and that they agree with themselves and with compose.yaml."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from agent_session import __version__
from agent_session.connection import _options
from agent_session.settings import load_settings
from agent_session.tools import load_toolbox
from tests.manifests.pods import (
    data_of,
    environment,
    environment_of,
    is_ours,
    of_kind,
    pods,
    runs_agent_session,
    scaled_in,
)
from tests.manifests.policies import SHELL_TOOLS
from tests.manifests.rendering import ALL, OVERLAYS, ROOT, SETUPS, Docs, render

Rendered = Callable[[str], Docs]


@pytest.mark.parametrize("overlay", [one for one in OVERLAYS if one != "kind"])
def test_an_overlay_runs_this_very_version(rendered: Rendered, overlay: str) -> None:
    ours = [one for pod in pods(rendered(overlay)) for one in pod.containers if is_ours(one)]
    assert {one["image"].rpartition(":")[2] for one in ours} == {__version__}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_has_every_part(rendered: Rendered, overlay: str) -> None:
    names = {(one["kind"], one["metadata"]["name"]) for one in rendered(overlay)}
    workers = "WorkerDeployment" if overlay == "production" else "Deployment"
    wanted = {
        (workers, "worker"), ("Deployment", "gateway"), ("Deployment", "redis"), ("Service", "gateway"),
        ("PersistentVolumeClaim", "data"), ("CronJob", "probe"), ("NetworkPolicy", "default-deny"),
        ("PodDisruptionBudget", "worker"), ("PodDisruptionBudget", "gateway"),
    }  # fmt: skip
    assert wanted <= names
    assert ("Ingress", "gateway") in names or overlay == "kind"
    scaled = {("WorkerResourceTemplate", "worker")} if overlay == "production" else {("ScaledObject", "worker")}
    assert scaled <= names or overlay == "kind"


def test_the_volume_is_shared_between_nodes(rendered: Rendered) -> None:
    for overlay in OVERLAYS:
        (claim,) = of_kind(rendered(overlay), "PersistentVolumeClaim")
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
        assert claim["spec"]["storageClassName"] in ("nfs", "agent-session-efs")


def test_a_volume_is_marked_once_and_not_at_every_deploy(rendered: Rendered) -> None:
    """`init` at every apply would make a new world of an empty mount."""
    for overlay in SETUPS:
        (job,) = of_kind(rendered(overlay), "Job")
        (init,) = job["spec"]["template"]["spec"]["initContainers"]
        assert init["args"] == ["init"]
    for overlay in ("production", "tenant"):
        assert not of_kind(rendered(overlay), "Job")


def test_the_shell_tools_are_all_of_them(tmp_path: Path) -> None:
    """Those that base/settings.env switches off exist: workers refuse to start with others."""
    toolbox = load_toolbox(load_settings({"data_dir": tmp_path}), "offline")
    assert all(toolbox.find(name) for name in SHELL_TOOLS)
    assert {one.name for one in toolbox.offered() if one.name.startswith("shell")} <= SHELL_TOOLS


@pytest.mark.parametrize("overlay", ["production", "tenant", "tenant-slack"])
def test_what_scales_workers_looks_at_their_queue(rendered: Rendered, overlay: str) -> None:
    docs = rendered(overlay)
    trigger = scaled_in(docs)["triggers"][0]
    given = environment_of(docs, "worker")
    asked = trigger["metadata"]
    assert asked["taskQueue"] == given["AGENT_SESSION_TASK_QUEUE"]
    assert asked["endpoint"] == given["AGENT_SESSION_TEMPORAL__ADDRESS"]
    assert asked["namespace"] in (given["AGENT_SESSION_TEMPORAL__NAMESPACE"], "")  # empty: the controller's to fill in
    (login,) = of_kind(docs, "TriggerAuthentication")
    assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
    secrets = {one["metadata"]["name"] for one in of_kind(docs, "Secret")}
    assert {one["name"] for one in login["spec"]["secretTargetRef"]} <= secrets


@pytest.mark.parametrize("overlay", ["production", "tenant"])
def test_the_gateway_answers_for_the_name_that_the_ingress_has(rendered: Rendered, overlay: str) -> None:
    """Else each request is refused (421); and the load balancer reaches pods, as the Service has no port on nodes."""
    docs = rendered(overlay)
    (ingress,), gateway = of_kind(docs, "Ingress"), next(one for one in pods(docs) if "gateway" in one.name)
    hosts = environment(gateway.spec["containers"][0], gateway.namespace, docs)["AGENT_SESSION_GATEWAY__HOSTS"]
    assert ingress["spec"]["rules"][0]["host"] in hosts.split(",")
    assert "gateway" in hosts.split(","), "the probe asks by the Service's name"
    assert ingress["metadata"]["annotations"]["alb.ingress.kubernetes.io/target-type"] == "ip"


def test_the_worker_controller_and_the_workers_have_one_temporal(rendered: Rendered) -> None:
    docs = rendered("production")
    (connection,), (workers,) = of_kind(docs, "Connection"), of_kind(docs, "WorkerDeployment")
    container = workers["spec"]["template"]["spec"]["containers"][0]
    given = environment(container, "agent-session", docs)
    assert connection["spec"]["hostPort"] == given["AGENT_SESSION_TEMPORAL__ADDRESS"]
    secret = connection["spec"]["apiKeySecretRef"]
    assert data_of(docs, "Secret", "agent-session", secret["name"])[secret["key"]] == "test-key"
    assert workers["spec"]["workerOptions"]["temporalNamespace"] == given["AGENT_SESSION_TEMPORAL__NAMESPACE"]
    assert workers["spec"]["workerOptions"]["connectionRef"]["name"] == connection["metadata"]["name"]


def test_only_the_workers_are_versioned_and_by_what_the_controller_tells_them(
    rendered: Rendered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reply of a pinned session must find its channel after that was deployed anew."""
    docs = rendered("production")
    for pod in pods(docs):
        for one in pod.containers:
            names = environment(one, pod.namespace, docs)
            assert not {"AGENT_SESSION_WORKER__DEPLOYMENT", "AGENT_SESSION_WORKER__BUILD_ID"} & names.keys()
    (workers,) = of_kind(docs, "WorkerDeployment")
    for name, value in environment(workers["spec"]["template"]["spec"]["containers"][0], "agent-session", docs).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TEMPORAL_DEPLOYMENT_NAME", "agent-session/worker")  # as the controller does, to each pod
    monkeypatch.setenv("TEMPORAL_WORKER_BUILD_ID", "0-4-0-abcd")
    worker = load_settings(config=tmp_path / "none.toml").worker
    assert (worker.deployment, worker.build_id) == ("agent-session/worker", "0-4-0-abcd")


def test_each_process_gets_only_the_secrets_of_its_work(rendered: Rendered) -> None:
    docs = rendered("production")
    holders: dict[str, set[str]] = {}
    for pod in pods(docs):
        for one in pod.containers:
            for name in environment(one, pod.namespace, docs):
                holders.setdefault(name, set()).add(pod.made_by["metadata"]["name"])
    assert holders["AGENT_SESSION_SLACK__BOT_TOKEN"] == {"slack", "probe"}
    assert holders["AGENT_SESSION_GATEWAY__TOKEN"] == {"probe"}
    assert holders["AGENT_SESSION_TEMPORAL__API_KEY"] == {"gateway", "slack", "probe"}  # workers: from the controller
    keys = [
        pod.made_by["metadata"]["name"]
        for pod in pods(docs)
        for one in pod.containers
        if any("model-keys" in source.get("secretRef", {}).get("name", "") for source in one.get("envFrom", []))
    ]
    assert keys == ["worker"]


@pytest.mark.parametrize("overlay", ["production", "tenant", "tenant-slack", "tenant-sandbox"])
def test_whoever_speaks_with_temporal_cloud_has_its_key(rendered: Rendered, overlay: str) -> None:
    docs = rendered(overlay)
    clients = [
        (pod.name, environment(one, pod.namespace, docs))
        for pod in pods(docs)
        if pod.labels.get("agent-session/temporal") == "client"
        for one in filter(runs_agent_session, pod.containers)
        if "http" not in one["args"]  # the probe through the gateway
        if pod.kind != "WorkerDeployment"  # from the controller
    ]
    assert len(clients) >= 3
    for name, given in clients:
        assert given.get("AGENT_SESSION_TEMPORAL__API_KEY") == "test-key", name
        assert given.get("AGENT_SESSION_TEMPORAL__TLS") == "true", name


def test_tenants_have_nothing_in_common(rendered: Rendered) -> None:
    mine, other = rendered("tenant"), rendered("production")
    assert {one["metadata"].get("namespace", "tenant-acme") for one in mine} == {"tenant-acme"}
    assert of_kind(mine, "ResourceQuota")
    assert of_kind(mine, "LimitRange")
    ours, theirs = (
        {doc["data"][key] for doc in of_kind(docs, "Secret") for key in doc["data"] if key in ("mac.key", "users.acl")}
        for docs in (mine, other)
    )
    assert len(ours) == len(theirs) == 2
    assert not ours & theirs


def test_a_new_key_of_temporal_reaches_the_workers_of_every_build(
    rendered: Rendered, manifests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller writes the name of the Connection's Secret into a build once: the name stays when the key changes,
    no variable of ours beats what the controller gives, and no build is made of a key."""
    changed = tmp_path / "k8s"
    shutil.copytree(manifests, changed)
    (changed / "overlays" / "production" / "secrets" / "temporal-api-key").write_text("a-new-key")
    before, after = rendered("production"), render(changed / "overlays" / "production")
    for kind in ("WorkerDeployment", "Connection", "WorkerResourceTemplate", "TriggerAuthentication"):
        assert of_kind(before, kind) == of_kind(after, kind), kind
    secret = of_kind(after, "Connection")[0]["spec"]["apiKeySecretRef"]
    assert data_of(after, "Secret", "agent-session", secret["name"])[secret["key"]] == "a-new-key"
    for name, value in environment_of(after, "worker").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TEMPORAL_API_KEY", "a-new-key")  # as the controller does, to each pod
    monkeypatch.setenv("HOME", str(tmp_path))
    asked = _options(load_settings(config=tmp_path / "none.toml"), "")
    assert (asked["api_key"], asked["tls"]) == ("a-new-key", True)
    assert asked["target_host"] == of_kind(after, "Connection")[0]["spec"]["hostPort"]


def test_a_changed_setting_or_secret_rolls_the_processes_out(manifests: Path, tmp_path: Path) -> None:
    changed = tmp_path / "k8s"
    shutil.copytree(manifests, changed)
    before = render(changed / "overlays" / "tenant")
    with (changed / "overlays" / "tenant" / "settings.env").open("a") as file:
        file.write("AGENT_SESSION_MODEL__MAX_STEPS=7\n")
    (changed / "overlays" / "tenant" / "secrets" / "mac.key").write_text("another\n")
    after = render(changed / "overlays" / "tenant")

    def named(docs: Docs, deployment: str) -> tuple[str, str]:
        pod = next(one for one in pods(docs) if one.made_by["metadata"]["name"] == deployment).spec
        volume = next(one for one in pod["volumes"] if one["name"] in ("signing", "users"))
        settings = pod["containers"][0].get("envFrom", [{}])[0].get("configMapRef", {}).get("name", "")
        return settings, volume["secret"]["secretName"]

    for name in ("worker", "gateway"):
        assert named(before, name)[0] != named(after, name)[0]
        assert named(before, name)[1] != named(after, name)[1]
    assert named(before, "redis") == named(after, "redis")


def test_kind_has_two_nodes_for_pods_and_the_images_of_compose(rendered: Rendered) -> None:
    cluster = yaml.safe_load((ROOT / "k8s" / "kind" / "cluster.yaml").read_text())
    assert [one["role"] for one in cluster["nodes"]] == ["control-plane", "worker", "worker"]
    compose = set(re.findall(r"image: ([a-z][\w./-]+:[\w.-]+)", (ROOT / "compose.yaml").read_text()))
    found = {one["image"] for pod in pods(rendered("kind")) for one in pod.containers if not is_ours(one)}
    assert found - compose == {"registry.k8s.io/sig-storage/nfs-provisioner:v4.0.8"}


def test_temporal_is_tuned_as_in_compose() -> None:
    """And as the embedded server: else each step after an activity waits 50 ms."""
    here = yaml.safe_load((ROOT / "k8s" / "overlays" / "kind" / "temporal" / "dynamic.yaml").read_text())
    there = yaml.safe_load((ROOT / "deploy" / "compose" / "dynamicconfig.yaml").read_text())
    assert here == there
    assert here["history.transferProcessorMaxPollRPS"] == [{"value": 2000}]


@pytest.mark.parametrize("overlay", ALL)
def test_all_that_runs_takes_settings_that_exist(
    rendered: Rendered, overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the very settings that the processes read: a name that is none, or a bad value, would end them."""
    docs, looked_at = rendered(overlay), 0
    for pod in pods(docs):
        for one in filter(runs_agent_session, pod.containers):
            given = environment(one, pod.namespace, docs)
            with monkeypatch.context() as patched:
                for name, value in given.items():
                    patched.setenv(name, value)
                loaded = load_settings(config=tmp_path / "none.toml")
            assert str(loaded.data_dir) == "/data/agent-session"
            looked_at += 1
    assert looked_at


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_manifest_has_a_secret_in_it(overlay: str) -> None:
    """In git there are names of files, nothing else."""
    for path in (ROOT / "k8s").rglob("*.yaml"):
        if "secrets" not in path.parts:
            assert not re.search(r"^kind: Secret$|^\s*stringData:", path.read_text(), re.MULTILINE), path
    for path in (ROOT / "k8s" / "overlays" / overlay).rglob("kustomization.yaml"):
        for one in yaml.safe_load(path.read_text()).get("secretGenerator", []):
            assert not one.get("literals"), one
            for source in (*one.get("files", []), *one.get("envs", [])):
                assert "secrets/" in source
    assert "secrets/" in (ROOT / "k8s" / ".gitignore").read_text().split()

"""compose.yaml: its shape, its rules, and a real run of what can be had without a registry."""

import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_session.ops.embedded import DYNAMIC_CONFIG, find_binary, free_port
from agent_session.settings import BadSettings, load_settings
from deploy import stack
from deploy.engine import ROOT, Engine, NoEngine
from deploy.image import base_image
from deploy.secret_files import CLIENT_TOKEN, GATEWAY_TOKEN, LIVE_URL, OPTIONAL, make_secrets

REQUIRED = "AGENT_TESTS_REQUIRE_ALL" in os.environ
FILES = (ROOT / "compose.yaml", ROOT / "deploy" / "compose" / "look.yaml")
OURS = ("init", "worker", "gateway", "slack")
REDIS_IMAGE = "localhost/redis:test"
REDIS_FILE = (
    "ARG BASE\nFROM ${BASE}\nRUN apt-get update -q && apt-get install -y -q --no-install-recommends redis-server"
)
DEFAULT_OF = re.compile(r"\$\{[A-Z_]+(?::-([^}]*))?\}")


def services(path: Path = FILES[0]) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())["services"]


def against_schema(*paths: Path) -> "subprocess.CompletedProcess[str]":
    if importlib.util.find_spec("check_jsonschema") is None and not REQUIRED:
        pytest.skip("check-jsonschema is not installed (pip install check-jsonschema)")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_keeps_the_compose_specification(tmp_path: Path) -> None:
    done = against_schema(*FILES)
    assert done.returncode == 0, done.stdout + done.stderr
    planted = tmp_path / "compose.yaml"
    planted.write_text(FILES[0].read_text().replace("    read_only: true", "    read_onyl: true"))
    assert against_schema(planted).returncode == 1


def test_only_the_gateway_is_published_and_only_on_loopback() -> None:
    for path in FILES:
        for name, service in services(path).items():
            for port in service.get("ports", ()):
                assert port.startswith("127.0.0.1:"), (name, port)
                assert path != FILES[0] or name == "gateway", name


def test_every_image_has_a_version() -> None:
    for name, service in services().items():
        image = DEFAULT_OF.sub(lambda found: found.group(1) or "", service["image"])
        tag = image.rpartition("/")[2].partition(":")[2]
        assert tag, f"{name}: {image} has no tag"
        assert tag not in ("latest", "main", "edge"), name


def test_our_containers_may_write_data_and_tmp_and_nothing_else() -> None:
    for name in OURS:
        service = services()[name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert [one.partition(":")[0] for one in service["tmpfs"]] == ["/tmp"], name
        assert service["volumes"] == ["data:/data"], name
        assert not {"privileged", "cap_add", "devices", "pid", "ipc", "network_mode"} & set(service), name


def test_no_secret_stands_in_it_and_each_is_a_file() -> None:
    whole = yaml.safe_load(FILES[0].read_text())
    for name, where in whole["secrets"].items():
        assert where == {"file": f".secrets/{name}"}
    used = {one for service in whole["services"].values() for one in service.get("secrets", ())}
    assert used == set(whole["secrets"])
    for name, service in whole["services"].items():
        for variable, value in service.get("environment", {}).items():
            secret = re.search(r"PASSWORD|TOKEN|SECRET|API_KEY|_PWD|LIVE__URL", variable)
            assert not secret or str(value).startswith("/run/secrets/"), (name, variable)


def test_who_needs_something_waits_until_it_is_there() -> None:
    every = services()
    for name, service in every.items():
        for other, how in service.get("depends_on", {}).items():
            wanted = {"service_healthy", "service_completed_successfully"}
            assert how["condition"] in wanted, (name, other)
            if how["condition"] == "service_healthy":
                assert "healthcheck" in every[other], f"{name} waits for {other}, which has no health check"
    for name in ("worker", "gateway", "slack"):
        assert set(every[name]["depends_on"]) >= {"init", "temporal-setup", "redis"}
    assert every["worker"]["deploy"]["replicas"] == 2


def test_every_variable_of_ours_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OURS:
        given = services()[name].get("environment", {})
        secrets = [one for one in services()[name].get("secrets", ()) if one.startswith("AGENT_SESSION_")]
        with monkeypatch.context() as patched:
            for variable, value in given.items():
                patched.setenv(variable, DEFAULT_OF.sub(lambda found: found.group(1) or "", str(value)))
            for variable in secrets:
                patched.setenv(variable, "redis://agent:password@redis:6379/0")
            load_settings({"data_dir": tmp_path})
            patched.setenv("AGENT_SESSION_NO_SUCH__SETTING", "x")
            with pytest.raises(BadSettings):
                load_settings({"data_dir": tmp_path})


def test_temporal_and_redis_are_told_what_the_docs_say() -> None:
    told = (ROOT / "deploy" / "compose" / "dynamicconfig.yaml").read_text()
    for one in DYNAMIC_CONFIG:
        name, _, value = one.partition("=")
        assert not name.startswith("history.") or f"{name}: [{{value: {value.strip(chr(34))}}}]" in told
    documented = re.search(r"ACL SETUSER agent (.*)", (ROOT / "docs" / "live.md").read_text())
    configured = re.search(r"^user agent (.*)", (ROOT / "deploy/compose/redis.conf").read_text(), re.MULTILINE)
    assert documented
    assert configured
    assert configured.group(1).replace("@PASSWORD@", "PASSWORD").split() == documented.group(1).split()


def test_what_it_mounts_is_there_and_prometheus_can_read_it(tmp_path: Path) -> None:
    for path in FILES:
        for name, service in services(path).items():
            for mount in service.get("volumes", ()):
                source = mount.partition(":")[0]
                assert not source.startswith(".") or (ROOT / source).is_file(), (name, source)
                assert not source.startswith(".") or mount.endswith(":ro"), (name, mount)
    if shutil.which("promtool") is None and not REQUIRED:
        pytest.skip("promtool is not installed (apt install prometheus)")
    config = yaml.safe_load((ROOT / "deploy" / "compose" / "prometheus.yml").read_text())
    config["rule_files"] = [str(ROOT / "k8s" / "observability" / "rules.yaml")]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "rules found" in done.stdout + done.stderr


def test_nothing_is_counted_twice() -> None:
    """Processes also send their metrics to the collector: only one of the two ways ends in Prometheus."""
    scraped = yaml.safe_load((ROOT / "deploy" / "compose" / "prometheus.yml").read_text())["scrape_configs"]
    assert {name for job in scraped for one in job["dns_sd_configs"] for name in one["names"]} == {
        "worker", "gateway", "slack",
    }  # fmt: skip
    collector = yaml.safe_load((ROOT / "deploy" / "compose" / "otel-collector.yaml").read_text())
    metrics = collector["service"]["pipelines"]["metrics"]
    assert metrics["receivers"] == ["otlp"], "a process would log that its metrics do not arrive"
    assert metrics["exporters"] == ["nop"]
    for pipeline in collector["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline.get(kind, ())) <= set(collector[kind])


def test_alerts_can_be_looked_at() -> None:
    """There is no Alertmanager: they are on Prometheus' own page."""
    published = services(FILES[1])["prometheus"]
    assert published["ports"] == ["127.0.0.1:9090:9090"]
    assert "outside" in published["networks"], "a network that is internal publishes nothing"


def test_passwords_are_made_once_and_only_their_owner_reaches_them(tmp_path: Path) -> None:
    folder = tmp_path / ".secrets"
    made = make_secrets(folder, {"OPENAI_API_KEY": "sk-1"})
    assert {GATEWAY_TOKEN, LIVE_URL, "postgres", "OPENAI_API_KEY"} <= set(made)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert make_secrets(folder, {}) == []
    assert before == {path.name: path.read_text() for path in folder.iterdir()}
    assert before["redis"].strip() in before[LIVE_URL]
    assert before[CLIENT_TOKEN] == before[GATEWAY_TOKEN]
    assert stat.S_IMODE((folder / CLIENT_TOKEN).stat().st_mode) == 0o600
    values = [text.strip() for name, text in before.items() if name not in (*OPTIONAL, LIVE_URL, CLIENT_TOKEN)]
    assert len(set(values)) == len(values)
    assert all(len(value) >= 32 for value in values)
    assert make_secrets(folder, {"OPENAI_API_KEY": "sk-2"}) == ["OPENAI_API_KEY"]
    assert set(yaml.safe_load(FILES[0].read_text())["secrets"]) <= set(before)


@pytest.fixture
def composed(engine: Engine) -> Engine:
    try:
        stack.compose_command(engine)
    except NoEngine as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))
    make_secrets(stack.SECRETS, {})
    return engine


@pytest.mark.parametrize("profiles", ["", "slack", "slack observability"])
def test_compose_itself_can_read_it(composed: Engine, profiles: str) -> None:
    command = stack.compose_command(composed)
    for name in profiles.split():
        command += ["--profile", name]
    done = subprocess.run(
        [*command, "-f", str(FILES[0]), "config"],
        cwd=ROOT, env=dict(composed.environment), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shown = yaml.safe_load(done.stdout)["services"]
    wanted = {name for name, one in services().items() if set(one.get("profiles", ())) <= set(profiles.split())}
    assert wanted <= set(shown)


def reduced(image: str) -> dict[str, Any]:
    """compose.yaml as far as it runs without a registry: Temporal's dev server, from this machine, stands for Temporal
    on PostgreSQL, and Redis comes from a Debian package. All else is as it stands there."""
    whole = yaml.safe_load(FILES[0].read_text())
    every = whole["services"] = {name: whole["services"][name] for name in ("init", "worker", "gateway", "redis")}
    settings = [word for one in DYNAMIC_CONFIG for word in ("--dynamic-config-value", one)]
    server = ["/temporal", "server", "start-dev", "--headless", "--ip", "0.0.0.0", *settings]
    every["temporal"] = {
        "image": image,
        "entrypoint": [*server, "--search-attribute", "AgentSessionNeeds=Keyword"],
        "environment": {"HOME": "/tmp"},
        "volumes": [f"{find_binary()}:/temporal:ro"],
        "networks": ["inside"],
    }
    every["redis"]["image"] = REDIS_IMAGE
    for name, one in every.items():
        one["volumes"] = [re.sub(r"^\./", f"{ROOT}/", mount) for mount in one.get("volumes", ())]
        one.pop("build", None)
        if "temporal-setup" in one.get("depends_on", {}):
            one["depends_on"] = {"init": one["depends_on"]["init"], "redis": {"condition": "service_started"}}
        assert name == "gateway" or "ports" not in one
    for name, where in whole["secrets"].items():
        where["file"] = str(stack.SECRETS / name)
    return whole


@pytest.fixture
def running(composed: Engine, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The gateway, two workers and Redis of compose.yaml, started by compose."""
    if not composed.has_image(REDIS_IMAGE):
        redis_of(composed)
    path = tmp_path / "compose.yaml"
    path.write_text(yaml.safe_dump(reduced(image)))
    given = {
        "IMAGE": image,
        "GATEWAY_PORT": str(free_port()),
        "COMPOSE_FILES": str(path),
        "COMPOSE_PROJECT_NAME": f"agent-session-test-{os.getpid()}",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    told = Engine(composed.name, {**composed.environment, **given})
    try:
        stack.compose(told, "up", "--detach", "--no-build")
        yield told
    finally:
        stack.compose(told, "down", "--volumes", "--timeout", "5")


def redis_of(engine: Engine) -> None:
    base = base_image(engine)
    subprocess.run(
        [engine.name, "build", "--network", "host", "--build-arg", f"BASE={base}", "--tag", REDIS_IMAGE, "-"],
        input=REDIS_FILE, env=dict(engine.environment), text=True, capture_output=True, timeout=600, check=True,
    )  # fmt: skip


def test_it_starts_answers_and_confines_commands(
    running: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.until(stack.ready, 120, "the gateway is not ready")
    monkeypatch.setattr(sys, "argv", ["stack", "smoke"])
    assert stack.main() == 0, capsys.readouterr().err
    assert "two turns in session smoke-" in capsys.readouterr().out

    names = running("ps", "--format", "{{.Names}}").split()
    project = os.environ["COMPOSE_PROJECT_NAME"]
    workers = [name for name in names if name.startswith(project) and "worker" in name]
    assert len(workers) == 2
    ports = {name: running("port", name) for name in names if name.startswith(project)}
    assert [text for text in ports.values() if text] == [f"18790/tcp -> 127.0.0.1:{os.environ['GATEWAY_PORT']}"]

    said = stack.ask("jail", "run id -u; ls /data /run/secrets; env")["text"]
    assert said.startswith("1000\n"), said
    assert "No such file or directory" in said
    assert "redis://" not in said
    for name in workers:
        told = running.try_to("logs", name)
        assert "live progress is not published" not in told.stdout + told.stderr
        about = json.loads(running("inspect", name))[0]
        assert "redis://" not in json.dumps(about), "a secret can be seen by inspecting the container"

"""What stands around the manifests: secret files, the registration at Temporal, the slow page, the kind scripts."""

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
import redis
import redis.backoff
import redis.retry
from aiohttp import web
from temporalio.client import Client

from agent_session.gateway.tokens import tokens_of
from agent_session.worker import require_search_attribute
from tests.manifests.rendering import OVERLAYS, ROOT, find_kubectl
from tests.manifests.stand_ins import free_port, slow_page

SECRETS = ROOT / "scripts" / "k8s_secrets.py"


def python(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=kept | environment, cwd=ROOT)


@pytest.fixture
def overlays(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "k8s" / "overlays", tmp_path / "overlays", ignore=shutil.ignore_patterns("secrets"))
    return tmp_path / "overlays"


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("secrets/*")}


def test_secret_files_are_made_once_and_only_ours_to_read(overlays: Path) -> None:
    made = python(SECRETS, overlays / "kind", ANTHROPIC_API_KEY="sk-ant-1")
    assert made.returncode == 0, made.stderr
    first = contents(overlays / "kind")
    assert first["agent/secrets/model-keys.env"] == "ANTHROPIC_API_KEY=sk-ant-1\n"
    assert {"temporal/secrets/postgres-password", "agent/secrets/mac.key"} <= first.keys()
    for path in (overlays / "kind").rglob("secrets/*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not any(value.strip() in made.stdout + made.stderr for value in first.values())
    again = python(SECRETS, overlays / "kind")
    assert (again.returncode, again.stdout) == (0, "")
    assert contents(overlays / "kind") == first


def test_what_only_you_know_is_named_and_left_to_you(overlays: Path) -> None:
    done = python(SECRETS, overlays / "production")
    assert done.returncode == 1
    assert "temporal-api-key" in done.stderr
    assert "slack.env" in done.stderr
    assert not (overlays / "production" / "secrets" / "slack.env").exists()


def test_a_password_that_is_known_only_as_a_digest_is_not_guessed(overlays: Path) -> None:
    assert python(SECRETS, overlays / "kind").returncode == 0
    (overlays / "kind" / "agent" / "secrets" / "live-bus.env").unlink()
    done = python(SECRETS, overlays / "kind")
    assert done.returncode == 1
    assert "remove it" in done.stderr


def test_a_folder_without_an_overlay_is_refused(tmp_path: Path) -> None:
    done = python(SECRETS, tmp_path)
    assert (done.returncode, "no kustomization.yaml" in done.stderr) == (1, True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_gateway_takes_the_tokens_that_are_made(overlays: Path, overlay: str) -> None:
    python(SECRETS, overlays / overlay)
    (path,) = (overlays / overlay).rglob("tokens.toml")
    owner, probe = tokens_of(path.read_text(), "made")
    assert (owner.name, owner.scopes, owner.prefixes) == ("owner", frozenset({"admin"}), ("",))
    assert (probe.name, probe.scopes, probe.prefixes) == ("probe", frozenset({"read", "send"}), ("probe",))
    own = tokens_of(path.with_name("probe-token").read_text(), "made")[0]
    assert own.digest == probe.digest


@pytest.fixture
def redis_of_the_manifests(overlays: Path) -> Iterator[tuple[int, str]]:
    """A real Redis with the users and flags that the manifests give it: its port, and the URL of the live bus."""
    server = shutil.which("redis-server")
    if server is None:
        if os.environ.get("AGENT_TESTS_REQUIRE_ALL"):
            raise RuntimeError("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    python(SECRETS, overlays / "tenant")
    folder = overlays / "tenant" / "secrets"
    text = (ROOT / "k8s" / "base" / "redis.yaml").read_text()
    flags = ["--save", "", "--appendonly", "no", "--maxmemory-policy", "volatile-ttl", "--protected-mode", "no"]
    assert all(f"- {flag}" in text for flag in flags if flag.startswith("--")), "the manifest starts it otherwise"
    port = free_port()
    started = subprocess.Popen(
        [server, "--port", str(port), "--bind", "127.0.0.1", "--aclfile", str(folder / "users.acl"), *flags],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    url = (folder / "live-bus.env").read_text().strip().partition("=")[2]
    try:
        yield port, url.replace("@redis:6379", f"@127.0.0.1:{port}")
    finally:
        started.terminate()
        started.wait()


def test_redis_lets_in_the_agent_alone_and_only_to_its_own(redis_of_the_manifests: tuple[int, str]) -> None:
    port, url = redis_of_the_manifests
    agent = redis.Redis.from_url(url, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 100))
    assert agent.ping()
    assert agent.publish("agent-session:live:x", "event") == 0
    assert agent.xadd("agent-session:live:y", {"event": "1"})
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis(port=port).ping()
    for forbidden in (
        lambda: agent.get("agent-session:live:y"),
        lambda: agent.publish("other", "event"),
        lambda: agent.xadd("other", {"event": "1"}),
        agent.flushall,
        agent.config_get,
        lambda: agent.keys("*"),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            forbidden()


async def test_temporal_is_made_ready_once_or_again(temporal_address: str) -> None:
    """Against a real server: a namespace that is new, then one that has everything."""
    script = ROOT / "k8s" / "overlays" / "kind" / "temporal" / "register.py"
    namespace = f"made-{uuid.uuid4().hex[:8]}"
    for _ in range(2):
        done = await asyncio.to_thread(python, script, ADDRESS=temporal_address, NAMESPACE=namespace, PATIENCE_S="60")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "has AgentSessionNeeds" in done.stdout
    await require_search_attribute(await Client.connect(temporal_address, namespace=namespace))


async def test_a_temporal_that_is_not_there_is_said() -> None:
    script = ROOT / "k8s" / "overlays" / "kind" / "temporal" / "register.py"
    done = await asyncio.to_thread(python, script, ADDRESS=f"127.0.0.1:{free_port()}", PATIENCE_S="0")
    assert done.returncode == 1
    assert "cannot be made ready" in done.stderr
    assert "Traceback" not in done.stderr


async def test_the_slow_page_takes_its_time() -> None:
    runner = web.AppRunner(slow_page())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as session:
            for path, least_s in (("/", 0), ("/1", 1)):
                began = time.monotonic()
                async with session.get(url + path) as answer:
                    assert answer.status == 200
                    assert await answer.text() == f"this page took {least_s} s\n"
                assert time.monotonic() - began >= least_s
    finally:
        await runner.cleanup()


def test_a_kubectl_is_found_or_fetched() -> None:
    find_kubectl()  # skips where there can be none
    found = python(ROOT / "scripts" / "kubectl.py")
    assert found.returncode == 0, found.stderr
    version = subprocess.run([found.stdout.strip(), "version", "--client"], capture_output=True, text=True)
    assert "Kustomize Version: v5" in version.stdout


@pytest.mark.parametrize("script", ["kind.py up", "kind.py down", "kind_demo.py"])
def test_a_machine_without_kind_is_told_what_it_lacks(script: str, tmp_path: Path) -> None:
    name, *arguments = script.split()
    done = python(ROOT / "scripts" / name, *arguments, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "kind: https://kind.sigs.k8s.io" in done.stderr
    assert "docker or podman: " in done.stderr
    assert "Traceback" not in done.stderr

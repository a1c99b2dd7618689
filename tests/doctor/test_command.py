"""`agent-session doctor` as people run it: exit codes, what it prints where, and that it always ends."""

import json
import os
import pty
import subprocess
import time
from pathlib import Path

import pytest

from agent_session.ops.doctor.findings import in_a_thread, ok
from agent_session.ops.doctor.services import gateway_checks, live_checks, model_checks, sandbox_checks
from agent_session.settings import load_settings
from agent_session.transcript.volume import Volume
from tests.doctor.support import doctor, results
from tests.e2e.support import COMMAND, clean_environment, running
from tests.fakes.providers import fails, fake_provider, says
from tests.live.support import PASSWORD, RedisServer, running_redis


@pytest.fixture
async def redis(tmp_path: Path):
    async with running_redis(tmp_path) as server:
        yield server


def test_a_service_that_runs_is_found_well(tmp_path: Path) -> None:
    with running(tmp_path / "data") as up:
        said = doctor(up.data_dir)
        assert said.failed() == []
        assert said.code == 0
        for check in ("temporal", "temporal.workers", "temporal.tuning", "gateway", "live", "directory", "writers"):
            assert said.result(check) == "ok", said.words(check)
        assert said.result("sandbox") == "warning", "this one was started without a sandbox"
        assert said.result("volume.two_writers") == "ok"


def test_it_works_when_nothing_runs_and_nothing_is_there(tmp_path: Path) -> None:
    said = doctor(tmp_path / "none")
    assert said.code == 0
    assert said.result("directory") == said.result("temporal") == "warning"
    assert said.result("volume") == "skipped"
    assert not (tmp_path / "none").exists()


def test_settings_that_cannot_be_used_are_a_finding_and_the_rest_is_still_looked_at(tmp_path: Path) -> None:
    Volume(tmp_path / "data").create()
    (tmp_path / "data" / "config.toml").write_text("[model]\nnmae = 'canary'\n")
    said = doctor(tmp_path / "data")
    assert said.failed() == ["settings"]
    assert "model.nmae" in said.words("settings")
    assert said.result("volume.lock") == "ok"
    assert said.result("services") == "skipped"


def test_no_secret_is_printed(tmp_path: Path) -> None:
    Volume(tmp_path / "data").create()
    secrets = {
        "AGENT_SESSION_LIVE__URL": "redis://:canary-redis@127.0.0.1:1/0",
        "AGENT_SESSION_GATEWAY__TOKEN": "canary-token-of-more-than-enough-letters",
        "AGENT_SESSION_TEMPORAL__API_KEY": "canary-key",
        "AGENT_SESSION_TEMPORAL__ADDRESS": "127.0.0.1:1",
        "AGENT_SESSION_SLACK__BOT_TOKEN": "xoxb-canary",
        "OPENAI_API_KEY": "canary-openai",
    }
    said = doctor(tmp_path / "data", **secrets)
    assert set(said.failed()) == {"live", "temporal"}
    assert said.code == 1
    assert said.result("channels") == "warning", "Slack has one token of two"
    assert "canary" not in said.text + said.errors


def test_in_a_pipe_each_line_has_the_result_first_and_what_to_do_last(tmp_path: Path) -> None:
    shown = subprocess.run(
        [*COMMAND, "doctor", "--volume", str(tmp_path / "none")], env=clean_environment(tmp_path),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    first, *_, last = shown.stdout.splitlines()
    assert first.startswith("failed · volume.writable · ")
    assert " · do: " in first
    assert last == "1 failed"
    assert shown.returncode == 1


def test_on_a_terminal_marks_stand_before_and_advice_below(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    environment = {**clean_environment(tmp_path), "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(
        [*COMMAND, "doctor", "--volume", str(tmp_path / "none")], env=environment, stdout=follower, stderr=follower
    )
    os.close(follower)
    shown = b""
    try:
        while data := os.read(leader, 4096):
            shown += data
    except OSError:  # the other end is closed
        pass
    os.close(leader)
    assert process.wait() == 1
    assert "✗" in shown.decode()
    assert "\n    → " in shown.decode().replace("\r", "").replace("\x1b[1;31m", "")


def test_a_directory_without_volume_is_refused_with_advice(tmp_path: Path) -> None:
    shown = subprocess.run(
        [*COMMAND, "doctor", str(tmp_path)],
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 2
    assert "--volume" in shown.stderr


async def test_a_check_that_hangs_is_given_up_and_nobody_waits_for_it(tmp_path: Path) -> None:
    """As a mount whose server is away: a call that never returns."""
    os.mkfifo(tmp_path / "hangs")

    def hang():
        yield ok("first", "was found before")
        (tmp_path / "hangs").read_bytes()

    since = time.monotonic()
    found = await in_a_thread("volume", 0.3, hang)
    assert time.monotonic() - since < 5
    assert results(found) == {"first": "ok", "volume": "failed"}
    assert "no answer within 0.3 s" in found[-1].words
    (tmp_path / "hangs").write_bytes(b"")  # lets the thread go


async def test_redis_that_answers_is_well_and_one_that_is_away_is_named_without_its_password(
    tmp_path: Path, redis: RedisServer
) -> None:
    settings = load_settings({"data_dir": tmp_path, "live": {"url": redis.url}})
    assert results(await live_checks(settings)) == {"live": "ok"}
    await redis.kill()
    (found,) = await live_checks(settings)
    assert found.result == "failed"
    assert PASSWORD not in found.words
    settings = load_settings({"data_dir": tmp_path, "live": {"url": "redis://nonsense:port"}})
    assert results(await live_checks(settings)) == {"live": "failed"}


async def test_a_gateway_that_others_reach_without_a_token_is_a_failure(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path, "gateway": {"host": "0.0.0.0"}})
    (found,) = await gateway_checks(settings)
    assert (found.result, "no token is set" in found.words) == ("failed", True)
    settings = load_settings({"data_dir": tmp_path, "gateway": {"url": "http://127.0.0.1:1", "token": "t" * 40}})
    assert results(await gateway_checks(settings)) == {"gateway": "failed"}
    assert results(await gateway_checks(load_settings({"data_dir": tmp_path}))) == {"gateway": "skipped"}


async def test_a_model_is_asked_only_when_told_and_what_it_lacks_is_said(tmp_path: Path) -> None:
    (found,) = await model_checks(load_settings({"data_dir": tmp_path}), ask=True)
    assert (found.result, "offline" in found.words) == ("warning", True)
    settings = load_settings({"data_dir": tmp_path, "model": {"name": "openai:gpt-5-mini"}})
    for ask, result in ((False, "warning"), (True, "failed")):
        (found,) = await model_checks(settings, ask=ask)
        assert found.result == result
        assert "OPENAI_API_KEY" in found.words


async def test_a_model_that_answers_is_well_and_one_that_refuses_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key")
    async with fake_provider() as provider:
        model = {"name": "openai-chat:gpt-test", "base_url": f"{provider.url}/v1"}
        settings = load_settings({"data_dir": tmp_path, "model": model})
        provider.will(says("OK"))
        assert results(await model_checks(settings, ask=False)) == {"model": "ok"}
        assert provider.requests == [], "asking costs money"
        assert results(await model_checks(settings, ask=True)) == {"model": "ok"}
        assert len(provider.requests) == 1
        provider.will(fails(401))
        (found,) = await model_checks(settings, ask=True)
    assert found.result == "failed"
    assert "canary" not in found.words


def test_commands_that_run_unconfined_are_a_warning(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path, "tools": {"shell": {"sandbox": "none"}}})
    assert results(sandbox_checks(settings)) == {"sandbox": "warning"}


def test_json_has_stable_names(tmp_path: Path) -> None:
    shown = subprocess.run(
        [*COMMAND, "doctor", "--volume", "--json", str(tmp_path)], env=clean_environment(tmp_path),
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    said = json.loads(shown.stdout)
    assert said["ok"] is True
    assert {frozenset(one) for one in said["findings"]} == {frozenset(("check", "result", "words", "todo", "figures"))}
    sync = next(one for one in said["findings"] if one["check"] == "volume.fsync")
    assert sync["figures"]["median_ms"] > 0

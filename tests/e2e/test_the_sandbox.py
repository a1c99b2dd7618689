"""The product with its sandbox on, as people run it: what a command may reach, and an approval that outlives
everything."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_session.sandbox.confinement import why_no_network, why_no_sandbox
from tests.e2e.support import Up, running, wait_until
from tests.support import check_transcript

REQUIRED = "AGENT_TESTS_REQUIRE_ALL" in os.environ
CONFINED = {"AGENT_SESSION_TOOLS__SHELL__SANDBOX": "bubblewrap", "ANTHROPIC_API_KEY": "", "MY_TOKEN": "canary"}


@pytest.fixture(scope="module", params=["off", "on"])
def up(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Up]:
    """A service with the network off, and one with it on."""
    problem = why_no_sandbox() or (why_no_network() if request.param == "on" else "")
    if problem and not REQUIRED:
        pytest.skip(problem)
    network = "true" if request.param == "on" else "false"
    data = tmp_path_factory.mktemp("sandbox") / "data"
    with running(data, AGENT_SESSION_TOOLS__SHELL__NETWORK=network, **CONFINED) as service:
        yield service


def shell(up: Up, command: str) -> str:
    done = up.run("send", "jail", f"run {command}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_start_up_and_status_say_how_commands_are_confined(up: Up) -> None:
    assert "shell: bubblewrap" in up.errors.read_text()
    shell(up, "true")
    assert "shell: bubblewrap, network:" in up.run("status", "jail").stdout


def test_neither_settings_nor_socket_nor_keys_nor_other_sessions_are_reached(up: Up) -> None:
    up.run("send", "other", "write secret.txt canary")
    (up.data_dir / "config.toml").write_text("# canary\n")
    said = shell(up, f"find / -name 'live.sock' -o -name mac.key -o -name secret.txt -o -name config.toml 2>/dev/null; "
                     f"cat {up.data_dir}/config.toml; env; cat /proc/*/environ; echo done")  # fmt: skip
    assert "canary" not in said
    assert "live.sock" not in said
    assert said.rstrip().endswith("done")


def test_temporal_and_the_metadata_address_are_not_reached(up: Up) -> None:
    port = json.loads((up.data_dir / "service.json").read_text())["address"].rpartition(":")[2]
    for address, door in (("127.0.0.1", port), ("198.18.0.2", port), ("10.0.2.2", port), ("169.254.169.254", "80")):
        code = f"import socket; socket.create_connection(('{address}', {door}), 2); print('rea' + 'ched')"
        assert "reached" not in shell(up, f'python3 -c "{code}" 2>&1 | tail -1')


def test_a_fork_bomb_ends_and_the_session_lives(up: Up) -> None:
    shell(up, "b() { b | b & }; b; sleep 5")
    assert shell(up, "echo alive") == "alive\n"


def test_an_approval_outlives_its_worker_and_what_was_allowed_runs_once(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--workers", "2", AGENT_SESSION_TOOLS__ASK="shell") as service:
        assert service.run("send", "wait", "run echo once >> ran; cat ran", "--id", "m").returncode == 5
        for worker in service.workers():
            os.kill(worker, signal.SIGKILL)
        told = service.run("send", "wait", "what are you doing?")
        shown = told.stdout + told.stderr  # answered at once; while the workers come back, what waits is said
        assert "echo once >> ran" in shown
        assert "allow" in shown
        assert "echo once >> ran" in service.run("approvals", "list").stdout
        assert service.run("approvals", "allow", "wait").returncode == 0
        wait_until(lambda: service.workers())
        reply = service.run("send", "wait", "run echo once >> ran; cat ran", "--id", "m")
        assert reply.stdout.startswith("once\n")
        assert (service.workspace("wait") / "ran").read_text() == "once\n"
        check_transcript(service.lines("wait"))

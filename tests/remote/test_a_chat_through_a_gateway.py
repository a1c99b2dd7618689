"""The chat on a real terminal, through a gateway that is killed in mid-answer; lines that are followed meanwhile."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.support import COMMAND, Up, clean_environment, running, wait_until
from tests.e2e.test_in_tmux import SlowAnswer
from tests.e2e.tmux import Tmux, until_there

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def options(tmp_path: Path, port: int) -> list[str]:
    """What a chat of another machine is told."""
    return ["--url", f"http://127.0.0.1:{port}", "--token-file", str(tmp_path / "data" / "gateway.token")]


@pytest.fixture
def opens(tmp_path: Path, options: list[str]) -> Iterator[Callable[..., Tmux]]:
    opened: list[Tmux] = []

    def open(*arguments: str) -> Tmux:
        opened.append(Tmux(tmp_path / "nothing-here", *arguments, *options))
        return opened[-1]

    yield open
    for one in opened:
        one.close()


@pytest.fixture
def model() -> Iterator[SlowAnswer]:
    made = SlowAnswer("It has **two", "** parts:\n\n- one\n- two\n", "\nThat is all.")
    yield made
    made.stop()


def settings(port: int, **more: str) -> dict[str, Any]:
    return {"AGENT_SESSION_GATEWAY__PORT": str(port), **more}


def kill_the_gateway(up: Up) -> None:
    """And wait for the next one, which `up` starts."""
    (before,) = up.pids("agent_session gateway")
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: [pid for pid in up.pids("agent_session gateway") if pid != before])


def test_an_answer_goes_on_when_the_gateway_is_killed_in_its_middle(
    tmp_path: Path, port: int, options: list[str], opens: Callable[..., Tmux], model: SlowAnswer
) -> None:
    given = settings(
        port, AGENT_SESSION_MODEL__NAME="openai-chat:fake", AGENT_SESSION_MODEL__BASE_URL=model.url + "/v1"
    )
    with running(tmp_path / "data", OPENAI_API_KEY="sk-none", **given) as up:
        wait_until(lambda: "gateway ready" in _said_by_the_gateway(up))
        chat = opens("main")
        chat.idle()
        following = subprocess.Popen(
            [*COMMAND, *options, "history", "main", "--follow", "--json"],
            env=clean_environment(tmp_path / "nothing-here"),
            stdout=subprocess.PIPE,
        )
        assert following.stdout is not None
        try:
            chat.type("make a plan")
            model.go[0].set()
            chat.until("It has **two")
            lines = [following.stdout.readline()]
            kill_the_gateway(up)
            model.go[1].set()
            chat.until("parts:", "one")
            kill_the_gateway(up)
            model.go[2].set()
            chat.until("That is all.")
            chat.idle()
            chat.type("thanks")
            chat.wait(lambda screen: screen.count("That is all.") == 2, "a second answer")
            chat.idle()
            assert chat.all().count("It has two parts:") == 2  # each answer once
            assert chat.all().count("make a plan") == 1
            assert "error" not in chat.all()
            written = (next(up.data_dir.glob("sessions/*/main-*")) / "history.jsonl").read_bytes()
            lines += [following.stdout.readline() for _ in range(written.count(b"\n") - 1)]
            assert b"".join(lines) == written
        finally:
            following.kill()
            following.wait()


def _said_by_the_gateway(up: Up) -> str:
    path = up.data_dir / "logs" / "gateway.err"
    return path.read_text() if path.exists() else ""


def test_tools_approvals_and_commands_work_as_they_do_where_the_service_runs(
    tmp_path: Path, port: int, opens: Callable[..., Tmux]
) -> None:
    with running(tmp_path / "data", **settings(port, AGENT_SESSION_TOOLS__ASK='["write_file"]')) as up:
        wait_until(lambda: "gateway ready" in _said_by_the_gateway(up))
        chat = opens("talk")
        chat.idle()
        chat.type(f"run {until_there('go')} && echo finished")
        chat.until("⚙ shell  until [ -e go ]", "· shell ")
        (up.workspace("talk") / "go").touch()
        chat.until("\nfinished")
        chat.type("/expand")
        chat.until("command: until [ -e go ]", "│ finished")
        chat.type("write f asked for")
        chat.until("? write_file asks to run", "allow? [y/a/n]")
        chat.type("y")
        chat.until("Wrote 9 bytes")
        chat.idle()
        chat.type("run sleep 50")
        chat.until("· shell ")
        chat.keys("C-c")
        chat.until("(cancelled)")
        chat.idle()
        wait_until(lambda: up.status("talk")["state"] == "idle")
        chat.type("/status")
        chat.until("talk · idle · offline")
        chat.type("/sessions")
        chat.until("* talk · idle")
        chat.type("/switch new/one")
        chat.until("new/one · idle")
        chat.type("remember green")
        chat.until("I will remember: green")
        assert "http:owner" not in chat.all()  # its own words are not told to it as somebody's
        assert "error" not in chat.all()
        chat.keys("C-d")
        chat.until("left with 0")
        again = opens("talk")
        again.until("talk", "(cancelled)")

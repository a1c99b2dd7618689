"""`up`, `chat` and the rest, as a person runs them."""

import json
import os
import select
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.support import (
    COMMAND,
    Up,
    alive,
    clean_environment,
    descendants,
    processor_s_of_children,
    running,
    wait_until,
)

EVERY_COMMAND = (
    *("up", "chat", "send", "run", "status", "sessions", "history", "watch"),
    *("cancel", "close", "approvals", "init", "logs", "worker"),
)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> "Up":
    with running(tmp_path_factory.mktemp("service") / "data") as service:
        yield service


def test_twenty_short_chats_in_a_row_end_with_exit_code_zero(up: Up) -> None:
    codes = [up.run("chat", "short", input="hello\n").returncode for _ in range(20)]
    assert codes == [0] * 20


def test_workers_end_with_exit_code_zero_again_and_again(up: Up) -> None:
    """The SDK can crash the interpreter at exit; every end goes through one place that prevents it."""
    service = json.loads((up.data_dir / "service.json").read_text())
    codes: list[int] = []
    for _ in range(6):
        worker = subprocess.Popen(
            [*COMMAND, "worker"],
            env={**up.environment, "AGENT_SESSION_TEMPORAL__ADDRESS": service["address"]},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert worker.stderr is not None
        wait_until(lambda w=worker: "polls" in w.stderr.readline())
        time.sleep(0.3)
        worker.terminate()
        codes.append(worker.wait(15))
    assert codes == [0] * 6


def test_a_second_up_refuses_and_names_the_owner(up: Up) -> None:
    second = up.run("up")
    assert second.returncode == 1
    assert str(up.process.pid) in second.stderr
    assert str(up.data_dir) in second.stderr


def test_every_port_refuses_a_foreign_host(up: Up) -> None:
    """I9: a web page that rebinds its name to 127.0.0.1 reaches nothing that acts. The server's own
    counters (/metrics) cannot be switched off; they hold no content and take no command."""
    ports = listening_ports(up.process.pid)
    assert ports
    for port in ports:
        for path in ("/", "/api/v1/namespaces", "/namespaces/default", "/api/v1/namespaces/default/workflows"):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": "evil.example"})
            assert answer_of(request) in (403, 404, 421, None), f"port {port} answered {path}"


def answer_of(request: urllib.request.Request) -> int | None:
    """The HTTP status; None when it does not speak HTTP at all."""
    try:
        with urllib.request.urlopen(request, timeout=3) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def listening_ports(pid: int) -> list[int]:
    inodes = set()
    for process in [pid, *descendants(pid)]:
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            try:
                inodes.add(os.readlink(descriptor))
            except OSError:
                continue
    ports: list[int] = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            address, port = fields[1].split(":")
            assert address == "0100007F", "only loopback"
            ports.append(int(port, 16))
    return ports


def test_files_of_a_service_are_private(up: Up) -> None:
    assert up.data_dir.stat().st_mode & 0o777 == 0o700
    for name in ("mac.key", "service.json", "temporal.db"):
        assert (up.data_dir / name).stat().st_mode & 0o077 == 0


def test_a_stop_takes_less_than_ten_seconds_also_in_mid_tool(tmp_path: Path) -> None:
    service = Up(tmp_path / "data").wait_ready()
    service.run("send", "main", "run sleep 60", "--no-wait")
    service.worker_that_runs("sleep 60")
    children = descendants(service.process.pid)
    began = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - began < 10
    assert not any(alive(pid) for pid in children)


def test_a_dead_worker_and_a_dead_temporal_are_replaced(up: Up) -> None:
    (worker,) = up.workers()
    os.kill(worker, signal.SIGKILL)
    os.kill(up.temporal(), signal.SIGKILL)
    assert up.run("send", "after", "remember it").stdout.strip() == "I will remember: it"


def test_chat_starts_a_service_that_two_chats_share_and_that_ends_after_the_last(tmp_path: Path) -> None:
    environment = clean_environment(tmp_path / "data")

    def chat() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*COMMAND, "chat"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    first, second = chat(), chat()
    for number, one in enumerate((first, second)):
        assert one.stdin is not None
        assert one.stdout is not None
        one.stdin.write(f"remember {number}\n")
        one.stdin.flush()
        assert one.stdout.readline() == f"I will remember: {number}\n"
    pid = json.loads((tmp_path / "data" / "service.json").read_text())["pid"]
    first.communicate("", timeout=60)
    out, _ = second.communicate("what did I say?\n", timeout=60)
    assert "remember 0" in out
    assert (first.returncode, second.returncode) == (0, 0)
    assert alive(pid)
    wait_until(lambda: not alive(pid), 30)


def test_chat_exits_with_one_when_a_message_failed(tmp_path: Path) -> None:
    environment = clean_environment(
        tmp_path / "data",
        OPENAI_API_KEY="x",
        AGENT_SESSION_MODEL__NAME="openai-chat:x",
        AGENT_SESSION_MODEL__BASE_URL=f"http://127.0.0.1:{closed_port()}/v1",
        AGENT_SESSION_MODEL__ATTEMPTS="1",
    )
    done = subprocess.run(
        [*COMMAND, "chat"], input="hello\n", env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "could not be reached" in done.stderr
    error_id = done.stderr.split("(error ")[1].split(")")[0]
    shown = subprocess.run(
        [*COMMAND, "logs", "--id", error_id], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert shown.returncode == 0
    assert "connection" in shown.stdout


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_an_existing_directory_without_its_marker_is_a_fault(tmp_path: Path) -> None:
    environment = clean_environment(tmp_path)
    for command in (["up"], ["chat"]):
        refused = subprocess.run([*COMMAND, *command], env=environment, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert "agent-session init" in refused.stderr
    assert subprocess.run([*COMMAND, "init"], env=environment, check=False).returncode == 0
    done = subprocess.run(
        [*COMMAND, "chat"], input="hello\n", env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["status", "nobody"], 3, "no session 'nobody'"),
        (["cancel", "nobody"], 3, "nobody"),
        (["close", "nobody"], 3, "nobody"),
        (["history", "nobody"], 3, "no transcript"),
        (["send", "", "x"], 2, "empty"),
        (["send", "main", " "], 2, "empty"),
        (["send", "main", "x", "--mode", "shout"], 2, "shout"),
        (["send", "main", "x", "--reply-to", "pigeon:1"], 2, "pigeon"),
        (["send", "main", "x", "--reply-to", "file:../x"], 2, "no file name"),
        (["send", "main", "x", "--reply-to", "cli:1"], 2, "waits for its replies"),
        (["send", "main", "x", "--id", "a\nb"], 2, "printable"),
        (["send", "main", "x", "--attach", "/nowhere"], 1, "/nowhere"),
        (["nonsense"], 2, "nonsense"),
        (["send"], 2, "Missing argument"),
        (["logs", "--id", "e-00000000"], 1, "nothing found"),
        (["chat", "--workspace", "/nowhere"], 2, "/nowhere"),
        (["approvals", "allow"], 2, "session"),
    ],
)
def test_bad_input_gets_a_clear_error_and_its_exit_code(up: Up, arguments: list[str], code: int, words: str) -> None:
    done = up.run(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AGENT_SESSION_MODEL__MAX_STEPS", "many", "model.max_steps = 'many'"),
        ("AGENT_SESSION_MODEL__COLOUR", "blue", "model.colour"),
        ("AGENT_SESSION_COLOUR", "blue", "AGENT_SESSION_COLOUR"),
        ("AGENT_SESSION_MODEL__NAME", "nonsense", "nonsense"),
        ("AGENT_SESSION_MODEL__NAME", "mistral:x", "pip install"),
        ("AGENT_SESSION_MODEL__NAME", "anthropic:x", "ANTHROPIC_API_KEY"),
    ],
)
def test_bad_settings_name_key_value_and_origin(up: Up, name: str, value: str, words: str) -> None:
    done = subprocess.run(
        [*COMMAND, "chat"],
        env={**up.environment, name: value},
        input="",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AGENT_SESSION_TOOLS__ASK", "shel", "'shel', which is no tool"),
        ("AGENT_SESSION_TOOLS__OFF", '["nope"]', "'nope'"),
        ("AGENT_SESSION_OPERATIONS__RUN_TOOL", "nope", "operations.run_tool"),
        ("AGENT_SESSION_MODEL__NAME", "nonsense", "nonsense"),
    ],
)
def test_a_service_that_cannot_use_its_settings_says_so_at_once(
    tmp_path: Path, name: str, value: str, words: str
) -> None:
    began = time.monotonic()
    for command in (["up"], ["run", "hi"]):
        done = subprocess.run(
            [*COMMAND, *command],
            env=clean_environment(tmp_path / "data", **{name: value}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
    assert time.monotonic() - began < 20


def test_a_wait_ends_at_its_time_out_and_at_ctrl_c(up: Up) -> None:
    late = up.run("send", "late", "sleep 60", "--timeout", "1")
    assert late.returncode == 1
    assert "ask again with the same id" in late.stderr
    waiting = up.start("send", "late", "remember it")
    wait_until(lambda: up.status("late")["queue"] == 1)
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(30) == 130
    assert up.status("late")["state"] == "running", "neither waited for the end of the turn"
    up.run("cancel", "late")


def test_a_reader_that_leaves_and_a_closed_output_are_no_failures(up: Up) -> None:
    up.run("send", "pipe", "run seq 1 20000")
    command = " ".join(COMMAND)
    for line in (f"{command} history pipe | head -1; exit ${{PIPESTATUS[0]}}", f"{command} sessions >&-"):
        done = subprocess.run(["bash", "-c", line], env=up.environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_another_namespace_of_the_embedded_server_is_made(tmp_path: Path) -> None:
    with running(tmp_path / "data", AGENT_SESSION_TEMPORAL__NAMESPACE="mine") as service:
        assert service.run("send", "main", "remember it").stdout.strip() == "I will remember: it"


def test_no_service_is_exit_code_four(tmp_path: Path) -> None:
    for environment in (
        clean_environment(tmp_path / "none"),
        clean_environment(tmp_path / "none", AGENT_SESSION_TEMPORAL__ADDRESS=f"127.0.0.1:{closed_port()}"),
    ):
        done = subprocess.run(
            [*COMMAND, "status", "main"], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 4, done.stderr
        assert "Traceback" not in done.stderr


def test_every_command_helps() -> None:
    listed = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=False)
    assert listed.returncode == 0
    for command in EVERY_COMMAND:
        assert command in listed.stdout
        shown = subprocess.run([*COMMAND, command, "--help"], capture_output=True, text=True, check=False)
        assert shown.returncode == 0
        assert "Usage" in shown.stdout


def test_run_keeps_memory_across_runs_and_refuses_a_live_session(up: Up) -> None:
    assert up.run("run", "remember blue", "--session", "once").stdout.strip() == "I will remember: blue"
    assert "blue" in up.run("run", "what did I say?", "--session", "once").stdout
    up.run("send", "live", "hello")
    refused = up.run("run", "hello", "--session", "live")
    assert refused.returncode == 1
    assert "send live" in refused.stderr
    assert up.run("run", "hello").returncode == 0


def test_a_reply_is_delivered_to_a_file_once(up: Up) -> None:
    up.run("send", "delivery", "remember blue", "--id", "d1", "--reply-to", "file:out")
    up.run("send", "delivery", "remember blue", "--id", "d1", "--reply-to", "file:out")
    path = up.data_dir / "channels" / "file" / "out.jsonl"
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["text"] == "I will remember: blue"


def test_chat_workspace_lets_tools_work_in_that_folder(up: Up, tmp_path: Path) -> None:
    (tmp_path / "here.txt").write_text("found me")
    (tmp_path / "AGENTS.md").write_text("Be kind.")
    assert up.run("chat", "ws", "--workspace", str(tmp_path), input="read here.txt\n").stdout.strip() == "found me"


def test_history_follows(up: Up) -> None:
    up.run("send", "follow", "remember one")
    following = up.start("history", "follow", "--follow", "--json")
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["content"] == "remember one"
    up.run("send", "follow", "remember two")
    wait_until(lambda: "remember two" in following.stdout.readline())  # type: ignore[union-attr]
    following.send_signal(signal.SIGINT)
    assert following.wait(30) == 130


def test_a_call_that_asks_ends_send_with_its_own_code_and_is_decided_by_command(tmp_path: Path) -> None:
    with running(tmp_path / "data", AGENT_SESSION_TOOLS__ASK='["shell"]') as service:
        asked = service.run("send", "asks", "run echo allowed", "--id", "m")
        assert asked.returncode == 5
        assert "echo allowed" in asked.stderr
        for command, words in (("chat", "run echo piped\n"), ("run", "")):
            more = ("run echo once",) if command == "run" else ("piped",)
            waits = service.run(command, *more, input=words)
            assert waits.returncode == 5, "nobody sits there to decide: it must not wait for a day"
            assert "approvals allow" in waits.stderr
        listed = json.loads(service.run("approvals", "list", "asks", "--json").stdout)
        assert service.run("approvals", "allow", "asks", "nonsense").returncode == 1
        assert service.run("approvals", "allow", "asks", listed[0]["call"]).returncode == 0
        assert service.run("send", "asks", "run echo allowed", "--id", "m").stdout.strip() == "allowed"


def test_watch_shows_a_turn_as_it_happens(up: Up) -> None:
    assert (up.data_dir / "live.sock").stat().st_mode & 0o777 == 0o600
    watching = up.start("watch", "watched", "--json")
    assert watching.stdout is not None

    def kinds_of_a_turn() -> list[str]:
        kinds: list[str] = []
        while not kinds or kinds[-1] != "turn_ended":
            kinds.append(json.loads(watching.stdout.readline())["kind"])  # type: ignore[union-attr]
        return kinds

    while not select.select([watching.stdout], [], [], 0.5)[0]:  # what came before it watched is not shown
        up.run("send", "watched", "remember me")
    kinds_of_a_turn()
    up.run("send", "watched", "run echo live")
    kinds = kinds_of_a_turn()
    while "tool_started" not in kinds:  # of a turn that it saw the end of, or more of the first ones
        kinds = kinds_of_a_turn()
    assert kinds[:2] == ["turn_started", "step"]
    assert {"tool_started", "tool_output", "tool_finished", "delta"} <= set(kinds)
    watching.kill()


def test_the_version_is_quick() -> None:
    before = processor_s_of_children()
    shown = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=False)
    assert shown.stdout.startswith("agent-session 0.")
    assert processor_s_of_children() - before < 1.0  # the figure itself (150 ms) is another test's

"""Kill or pause any process at any moment: nothing is lost, nothing runs twice, the tool's fate is honest.

PAUSE_S in the environment sets how long a worker is stopped (default 12 s; the heartbeat time-out is 4 s).
"""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.support import Up, alive, command_of, descendants, running, wait_until
from tests.support import check_transcript

PAUSE_S = float(os.environ.get("PAUSE_S", "12"))


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> "Up":
    with running(tmp_path_factory.mktemp("kill") / "data", "--workers", "2") as service:
        yield service


def outcomes(up: Up, key: str) -> list[str]:
    return [line["outcome"] for line in up.lines(key) if line["role"] == "tool"]


def test_a_worker_killed_in_mid_tool_costs_at_most_eight_seconds(up: Up) -> None:
    asking = up.start("send", "killed", "run sleep 20 && echo done >> f")
    worker = up.worker_that_runs("sleep 20")
    (command,) = wait_until(lambda: [p for p in descendants(worker) if command_of(p).startswith("sleep 20")])
    os.kill(worker, signal.SIGKILL)
    killed = time.monotonic()
    out, errors = asking.communicate(timeout=60)
    lost_s = time.monotonic() - killed
    assert asking.returncode == 0, errors
    assert "may or may not have taken effect" in out
    # without the word to Temporal that forgets the dead worker: 5 s more (4 s heartbeat time-out + 5 s sticky)
    assert lost_s <= 8.0, f"{lost_s:.1f} s"
    wait_until(lambda: not alive(command))
    assert not (up.workspace("killed") / "f").exists()
    assert outcomes(up, "killed") == ["interrupted"]
    check_transcript(up.lines("killed"))
    wait_until(lambda: len(up.workers()) == 2)


def test_temporal_killed_in_mid_tool_loses_nothing(up: Up) -> None:
    asking = up.start("send", "server", "run sleep 6 && echo done >> f && cat f")
    up.worker_that_runs("sleep 6")
    os.kill(up.temporal(), signal.SIGKILL)
    out, errors = asking.communicate(timeout=60)
    assert asking.returncode == 0, errors
    assert out.strip() == "done"
    assert (up.workspace("server") / "f").read_text() == "done\n"
    assert outcomes(up, "server") == ["ok"]
    check_transcript(up.lines("server"))


def test_worker_and_temporal_killed_together(up: Up) -> None:
    asking = up.start("send", "both", "run sleep 5 && echo done >> f")
    worker = up.worker_that_runs("sleep 5")
    os.kill(worker, signal.SIGKILL)
    os.kill(up.temporal(), signal.SIGKILL)
    out, errors = asking.communicate(timeout=60)
    assert asking.returncode == 0, errors
    assert "may or may not have taken effect" in out
    assert outcomes(up, "both") == ["interrupted"]
    check_transcript(up.lines("both"))


def test_a_worker_killed_in_the_model_call_asks_again_and_answers_once(up: Up) -> None:
    asking = up.start("send", "model", "sleep 6")
    wait_until(lambda: '"state": "running"' in up.run("status", "model", "--json").stdout)
    for worker in up.workers():
        os.kill(worker, signal.SIGKILL)
    out, errors = asking.communicate(timeout=60)
    assert asking.returncode == 0, errors
    assert out.strip() == "I slept for 6 s."
    assert [line["role"] for line in up.lines("model")] == ["user", "assistant", "event"]


def test_a_worker_paused_in_mid_tool_writes_and_does_nothing_when_it_wakes(up: Up) -> None:
    asking = up.start("send", "paused", "tools run sleep 7 && echo one >> f; run sleep 7.5; run sleep 7.25")
    worker = up.worker_that_runs("sleep 7")
    os.kill(worker, signal.SIGSTOP)
    try:
        out, errors = asking.communicate(timeout=60)
        assert asking.returncode == 0, errors
        assert "may or may not have taken effect" in out
        before = up.lines("paused")
        time.sleep(max(0.0, PAUSE_S - 8))
    finally:
        os.kill(worker, signal.SIGCONT)
    wait_until(lambda: not any("sleep 7" in command_of(p) for p in descendants(worker)))
    time.sleep(4)  # what it would do, it would do now
    assert up.lines("paused") == before
    check_transcript(before)
    assert up.run("send", "paused", "remember after").stdout.strip() == "I will remember: after"


def test_a_worker_paused_just_before_an_append_writes_nothing_when_it_wakes(up: Up) -> None:
    """The command ends while its worker is stopped: the very next thing it would do is append the result."""
    asking = up.start("send", "append", "run sleep 2.5 && echo one >> f")
    worker = up.worker_that_runs("sleep 2.5")
    os.kill(worker, signal.SIGSTOP)
    try:
        out, errors = asking.communicate(timeout=60)
        assert asking.returncode == 0, errors
        assert "may or may not have taken effect" in out
        before = up.lines("append")
        time.sleep(max(0.0, PAUSE_S - 8))
    finally:
        os.kill(worker, signal.SIGCONT)
    time.sleep(5)  # more than the moment for which it waits to be joined
    assert up.lines("append") == before
    assert outcomes(up, "append") == ["interrupted"]
    assert (up.workspace("append") / "f").read_text() == "one\n"


def test_everything_killed_at_once_goes_on_after_a_new_start(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    first = Up(data_dir).wait_ready()
    waiting = first.start("send", "main", "run sleep 30 && echo done >> f", "--id", "m")
    first.worker_that_runs("sleep 30")
    children = descendants(first.process.pid)
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    wait_until(lambda: not any(alive(p) for p in children))  # nothing of a dead service stays behind
    with running(data_dir) as second:
        answer = second.run("send", "main", "run sleep 30 && echo done >> f", "--id", "m", timeout_s=60)
        assert answer.returncode == 0, answer.stderr
        assert "may or may not have taken effect" in answer.stdout
        assert outcomes(second, "main") == ["interrupted"]
        check_transcript(second.lines("main"))
        assert waiting.communicate(timeout=60)[0] == answer.stdout  # who waited all along has it, too

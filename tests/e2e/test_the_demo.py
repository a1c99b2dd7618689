"""`agent-session demo`: the story holds, with a hostile environment around it, and leaves nothing behind;
also when it is interrupted or killed. And the small commands that must be quick.
"""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import termios
import time
from pathlib import Path

import pytest

from agent_session.ops.processes import Process, _from_proc, _from_ps, ancestors
from agent_session.ops.processes import descendants as descendants_in
from tests.e2e.support import (
    COMMAND,
    alive,
    clean_environment,
    command_of,
    descendants,
    processor_s_of_children,
    wait_until,
)

DEMO = [*COMMAND, "demo"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A person's own, as bad as it can be: settings that nobody can use, a Temporal that is not there."""
    data, config = tmp_path / "mine", tmp_path / "config"
    data.mkdir()
    (data / "config.toml").write_text("this is not TOML\n")
    (config / "temporalio").mkdir(parents=True)
    (config / "temporalio" / "temporal.toml").write_text('[profile.default]\naddress = "127.0.0.1:2"\n')
    (tmp_path / "tmp").mkdir()
    return clean_environment(
        data,
        TMPDIR=str(tmp_path / "tmp"),
        XDG_CONFIG_HOME=str(config),
        TEMPORAL_ADDRESS="127.0.0.1:1",
        AGENT_SESSION_NONSENSE="1",
        AGENT_SESSION_TEMPORAL__ADDRESS="127.0.0.1:3",
        OPENAI_API_KEY="canary",
    )


def what_it_made(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "tmp").iterdir())


def test_the_story_holds_and_nothing_is_left(environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(DEMO, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line[0] for line in lines[1:-1]] == list("123456789")
    assert all(len(line) <= 80 for line in lines[:-1]), done.stdout
    assert re.search(r"^1 a turn \.+ [\d.]+ m?s$", done.stdout, re.MULTILINE)
    (later,) = re.findall(r"^4 another worker took over \.+ ([\d.]+) s later$", done.stdout, re.MULTILINE)
    assert 1 < float(later) < 30
    assert "may or may not have taken effect" in done.stdout
    assert "agent-session chat" in lines[-1]
    assert "\x1b" not in done.stdout, "no spinner where there is no terminal"
    assert what_it_made(tmp_path) == []
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["config.toml"]


def test_a_step_that_does_not_hold_is_said_in_a_sentence_and_keep_keeps_its_logs(
    environment: dict[str, str], tmp_path: Path
) -> None:
    info = tmp_path / "site" / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[agent_session.tools]\nbroken = not_there\n")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
    done = subprocess.run([*DEMO, "--keep"], env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 1, done.stdout
    assert "did not hold: starting Temporal" in done.stderr
    assert "not_there" in done.stderr
    assert "Traceback" not in done.stderr
    (kept,) = what_it_made(tmp_path)
    assert str(kept) in done.stderr


def started(environment: dict[str, str], tmp_path: Path) -> tuple["subprocess.Popen[bytes]", list[int]]:
    """A demo in the middle of its story, and all its processes."""
    out = tmp_path / "out"
    with open(out, "wb") as file:
        process = subprocess.Popen(DEMO, env=environment, stdout=file, stderr=file)
    wait_until(lambda: "2 a tool" in out.read_text() or process.poll() is not None, 60)
    assert process.poll() is None, out.read_text()
    family = descendants(process.pid)
    assert any("server start-dev" in command_of(pid) for pid in family)
    return process, family


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_demo_that_is_asked_to_end_takes_all_with_it(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process, family = started(environment, tmp_path)
    process.send_signal(number)
    assert process.wait(20) == code
    assert not any(alive(pid) for pid in family)
    assert what_it_made(tmp_path) == []


def test_a_demo_that_is_killed_leaves_no_process(environment: dict[str, str], tmp_path: Path) -> None:
    process, family = started(environment, tmp_path)
    process.kill()
    process.wait()
    wait_until(lambda: not any(alive(pid) for pid in family), 15)


def test_on_a_terminal_the_step_that_runs_is_seen_and_ctrl_c_ends_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    main, side = pty.openpty()
    process = subprocess.Popen(
        DEMO,
        env={**environment, "TERM": "xterm"},
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C becomes a signal
    )
    os.close(side)
    seen, deadline = "", time.monotonic() + 60
    while not re.search(r"\r4 another worker takes over \.+ \S 1 s", seen):
        assert time.monotonic() < deadline, seen
        if select.select([main], [], [], 0.2)[0]:
            seen += os.read(main, 65536).decode()
    family = descendants(process.pid)
    os.write(main, b"\x03")
    assert process.wait(20) == 130
    os.close(main)
    assert not any(alive(pid) for pid in family)
    assert what_it_made(tmp_path) == []


@pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps here; where there is no /proc there is one")
def test_who_runs_below_whom_is_seen_in_proc_as_in_ps() -> None:
    child = subprocess.Popen(["sleep", "4747"])
    try:
        for look in (_from_proc, _from_ps):
            table = {one.pid: one for one in look()}
            assert table[child.pid] == Process(child.pid, os.getpid(), "sleep 4747")
            assert table[child.pid] in descendants_in(table, os.getppid())
            assert [one.pid for one in ancestors(table, child.pid)][:2] == [os.getpid(), os.getppid()]
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("arguments", "limit_ms"), [(["--version"], 150), (["--help"], 600), (["config", "path"], 600)]
)
def test_small_commands_are_quick(tmp_path: Path, arguments: list[str], limit_ms: int) -> None:
    """In processor time, which other processes do not use up; that nothing is waited for shows in the benchmark."""

    def once() -> float:
        before = processor_s_of_children()
        subprocess.run([*COMMAND, *arguments], env=clean_environment(tmp_path), capture_output=True, check=True)
        return (processor_s_of_children() - before) * 1000

    best = min(once() for _ in range(5))
    assert best <= limit_ms, f"{best:.0f} ms"

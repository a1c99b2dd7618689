"""What a newcomer types, through the command itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "agent_session"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AGENT_SESSION_", "TEMPORAL_"))}
    return {**kept, "AGENT_SESSION_DATA_DIR": str(tmp_path / "data")}


def test_two_lines_of_input_give_two_replies_and_the_second_remembers(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [*COMMAND, "chat"],
        input="remember blue\nwhat did I say?\n",
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "blue" in first
    assert "blue" in second
    assert "offline model" in done.stderr
    history = subprocess.run(
        [*COMMAND, "history", "main"], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert history.stdout.count("remember blue") >= 2

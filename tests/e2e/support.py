"""Real processes: `up` and workers, found, killed and paused by their pids."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

COMMAND = [sys.executable, "-m", "agent_session"]
READY_S = 60.0


def clean_environment(data_dir: Path, **more: str) -> dict[str, str]:
    secret = ("AGENT_SESSION_", "TEMPORAL_", "ANTHROPIC_", "OPENAI_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(secret)}
    ours = {"AGENT_SESSION_DATA_DIR": str(data_dir), "AGENT_SESSION_TOOLS__SHELL__SANDBOX": "none"}
    return {**kept, **ours, **more}


def wait_until(what: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Poll the outside world; processes have no event to await."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s: {what}")


def processor_s_of_children() -> float:
    """What ended children of this process have used: a busy machine makes them wait, not work."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    except OSError:
        pass
    return found


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Up:
    """A running `agent-session up`, and the command to talk to it."""

    def __init__(self, data_dir: Path, *arguments: str, **environment: str) -> None:
        self.data_dir = data_dir
        self.environment = clean_environment(data_dir, **environment)
        self.errors = data_dir.with_suffix(".err")
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, "up", *arguments], env=self.environment, stdout=errors, stderr=errors
            )

    def wait_ready(self) -> "Up":
        def ready() -> bool:
            assert self.process.poll() is None, self.errors.read_text()
            return "ready" in self.errors.read_text()

        wait_until(ready, READY_S)
        return self

    def run(self, *arguments: str, input: str = "", timeout_s: float = 60) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment,
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*COMMAND, *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def pids(self, words: str) -> list[int]:
        """Our processes whose command line has these words; launchers only hold pipes and are left out."""
        return [
            p for p in descendants(self.process.pid) if words in command_of(p) and "launcher.py" not in command_of(p)
        ]

    def workers(self) -> list[int]:
        return self.pids("agent_session worker")

    def temporal(self) -> int:
        return self.pids("server start-dev")[0]

    def worker_that_runs(self, words: str) -> int:
        """The worker below which a command with these words runs."""

        def find() -> int | None:
            for worker in self.workers():
                if any(words in command_of(p) for p in descendants(worker)):
                    return worker
            return None

        return int(wait_until(find))

    def lines(self, key: str) -> list[dict[str, Any]]:
        shown = self.run("history", key, "--json")
        return [json.loads(line) for line in shown.stdout.splitlines()]

    def status(self, key: str) -> dict[str, Any]:
        """As Temporal knows it: a reply is in the transcript a moment before its turn has ended there."""
        found: dict[str, Any] = json.loads(self.run("status", key, "--json").stdout)
        return found

    def workspace(self, key: str) -> Path:
        (folder,) = self.data_dir.glob(f"sessions/*/{key}-*/workspace")
        return folder

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)


@contextmanager
def running(data_dir: Path, *arguments: str, **environment: str) -> Iterator[Up]:
    up = Up(data_dir, *arguments, **environment)
    try:
        yield up.wait_ready()
    finally:
        if up.process.poll() is None:
            for pid in descendants(up.process.pid):
                try:
                    os.kill(pid, signal.SIGCONT)
                except OSError:
                    pass
        assert up.stop() == 0, up.errors.read_text()

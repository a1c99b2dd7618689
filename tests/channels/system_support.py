"""The postbox as an installed package, and its process, killed and started by its pid."""

import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from tests.e2e.support import COMMAND, clean_environment, wait_until
from tests.support import Service

ROOT = Path(__file__).parents[2]
POSTBOX = "postbox = tests.channels.postbox:create"


def install_channel(site: Path, entry_point: str = POSTBOX) -> None:
    """A distribution with this entry point, as pip would leave it."""
    info = site / "postbox-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: postbox\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[agent_session.channels]\n{entry_point}\n")


class PostOffice:
    """The folder of letters, as people outside see it, and commands run with the postbox installed."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder / "letters"
        (self.folder / "in").mkdir(parents=True)
        install_channel(folder / "site")
        path = os.pathsep.join((str(folder / "site"), str(ROOT)))
        given = {"PYTHONPATH": path, "POSTBOX_DIR": str(self.folder), **environment}
        self.environment = clean_environment(folder / "data", **given)

    @classmethod
    def of(cls, folder: Path, service: Service) -> "PostOffice":
        """Beside a service of this process."""
        more = {"TEMPORAL__ADDRESS": service.settings.temporal.address, "TASK_QUEUE": service.settings.task_queue}
        return cls(folder, **{f"AGENT_SESSION_{name}": value for name, value in more.items()})

    def put(self, name: str, text: str) -> None:
        (self.folder / "new").write_text(text)
        (self.folder / "new").rename(self.folder / "in" / f"{name}.letter")

    def posted(self, person: str) -> list[str]:
        return [text for _, text in self._posted(person)]

    def posted_ids(self, person: str) -> list[str]:
        return [reply for reply, _ in self._posted(person)]

    def tried(self, person: str) -> list[str]:
        path = self.folder / f"{person}.tried"
        return path.read_text().split() if path.exists() else []

    def until_posted(self, person: str, count: int, timeout_s: float = 60) -> list[str]:
        wait_until(lambda: len(self.posted(person)) >= count, timeout_s)
        return self.posted(person)

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def status(self, *flags: str) -> tuple[int, dict[str, Any]]:
        """Exit code of `channels status --json`, and what it says of the postbox."""
        done = self.run("channels", "status", "--json", *flags)
        assert done.stdout, done.stderr
        (found,) = [one for one in orjson.loads(done.stdout) if one["name"] == "postbox"]
        return done.returncode, found

    def start(self) -> "subprocess.Popen[str]":
        """The channel's process; returns once it runs."""
        process = subprocess.Popen(
            [*COMMAND, "channels", "run", "postbox"],
            env=self.environment, cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        line = process.stderr.readline()
        assert "postbox runs" in line, line + process.stderr.read()
        return process

    @contextmanager
    def running(self) -> Generator["subprocess.Popen[str]"]:
        process = self.start()
        try:
            yield process
        finally:
            end(process)

    def _posted(self, person: str) -> list[list[str]]:
        path = self.folder / f"{person}.posted"
        return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def end(process: "subprocess.Popen[str]", how: int = signal.SIGTERM) -> int:
    """Its exit code."""
    if process.poll() is None:
        process.send_signal(how)
    code = process.wait(20)
    if process.stderr is not None:
        process.stderr.close()
    return code

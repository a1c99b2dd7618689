"""Doctor as people run it, and places for it to look at: file systems of their own, where this user may mount some."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_session.ops.doctor.findings import Finding
from tests.e2e.support import COMMAND, clean_environment

ALONE = [sys.executable, "-m", "agent_session.ops.doctor.alone"]
BROKEN = Path(__file__).parent / "broken"
WITHIN_S = 90


class Said:
    """What a run of doctor said."""

    def __init__(self, done: "subprocess.CompletedProcess[str]", findings: list[dict[str, Any]]) -> None:
        self.code, self.text, self.errors = done.returncode, done.stdout, done.stderr
        self.findings = findings
        assert "Traceback" not in done.stdout + done.stderr, done.stderr

    def result(self, check: str) -> str:
        """Its worst one."""
        found = {one["result"] for one in self.findings if one["check"] == check}
        assert found, f"{check} is not among {[one['check'] for one in self.findings]}\n{self.errors}"
        return next(one for one in ("failed", "warning", "skipped", "ok") if one in found)

    def words(self, check: str) -> str:
        return " ".join(f"{one['words']} {one['todo']}" for one in self.findings if one["check"] == check)

    def failed(self) -> list[str]:
        return [one["check"] for one in self.findings if one["result"] == "failed"]


def doctor(data_dir: Path, *arguments: str, **environment: str) -> Said:
    """`agent-session doctor --json` in a process of its own."""
    done = subprocess.run(
        [*COMMAND, "doctor", "--json", *arguments], env=clean_environment(data_dir, **environment),
        capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("{"), done.stderr
    said = json.loads(done.stdout)
    assert said["ok"] == (done.returncode == 0)
    return Said(done, said["findings"])


def alone(folder: Path, *arguments: str, broken: str = "") -> Said:
    """The volume check as a program; `broken`: on a volume that breaks this promise."""
    environment = {**os.environ, "PYTHONPATH": str(BROKEN), "BROKEN_VOLUME": broken} if broken else dict(os.environ)
    done = subprocess.run(
        [*ALONE, str(folder), *arguments], env=environment, cwd=Path(__file__).parents[2],
        capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    return said_by(done)


def said_by(done: "subprocess.CompletedProcess[str]") -> Said:
    return Said(done, [json.loads(line) for line in done.stdout.splitlines()])


@contextmanager
def mounted(folder: Path, *how: str) -> Iterator[Path]:
    """`mount HOW folder` while inside; skips where this user may not."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *how, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mount is not allowed here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def results(findings: Iterable[Finding]) -> dict[str, str]:
    """Check and result."""
    return {one.check: one.result for one in findings}

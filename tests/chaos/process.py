"""One child process of a run, and short commands. Must not know what they are for."""

import ctypes
import signal
import subprocess
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1


class Process:
    """One child, with its output in a log. Dies with us."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.log, self.start = log, log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None

    def said(self, words: str) -> bool:
        with self.log.open("rb") as file:
            file.seek(self.start)
            return words.encode() in file.read()

    def send(self, number: int) -> bool:
        """Whether it was there to get the signal."""
        if self.alive:
            self._popen.send_signal(number)
            return True
        return False

    def kill(self) -> bool:
        there = self.send(signal.SIGKILL)
        self._popen.wait()
        return there


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(*command: str, env: dict[str, str] | None = None, check: bool = True) -> "subprocess.CompletedProcess[Any]":
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done

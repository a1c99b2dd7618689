"""A real terminal for tests: the program runs in tmux, is typed into, and its screen is read.

Screens are compared with the readable files in `screens/`; `UPDATE_SCREENS=1` writes them anew.
"""

import os
import re
import shlex
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.e2e.support import COMMAND, clean_environment

SCREENS = Path(__file__).parent / "screens"
UPDATE = bool(os.environ.get("UPDATE_SCREENS"))
VARIABLE = [
    (re.compile(r"\d+\.\d s\b|\b\d+:\d\d min"), "# s"),
    (re.compile(r"\b\d+ s\b|\b\d+:\d\d\b"), "# s"),
    (re.compile(r"[\d.]+[kM]? tokens"), "# tokens"),
    (re.compile(r"…{4,}|\.{4,}"), "………"),
    (re.compile(r"t-[0-9a-f]{16}"), "t-#"),
    (re.compile(r"\b(thinking|answering|working) # s"), "working # s"),
]


class Tmux:
    """`agent-session chat` in a terminal of its own."""

    def __init__(self, data_dir: Path, *arguments: str, columns: int = 80, rows: int = 24, **environment: str) -> None:
        self._socket = f"test-{uuid.uuid4().hex[:8]}"
        self._environment = clean_environment(data_dir, **environment)
        command = shlex.join([*COMMAND, "chat", *arguments])
        if "TERM" in environment:  # tmux sets it for what it runs
            command = f"TERM={environment['TERM']} {command}"
        run = f"{command}; echo left with $?; sleep 600"
        self._tmux("-u", "new-session", "-d", "-x", str(columns), "-y", str(rows), run)
        self._tmux("set-option", "-g", "history-limit", "5000")

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._socket, "-f", "/dev/null", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return done.stdout

    def keys(self, *keys: str) -> None:
        """tmux's names: Enter, C-c, M-Enter."""
        self._tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        """Letters, then Enter."""
        self._tmux("send-keys", "-l", text)
        self.keys("Enter")

    def paste(self, text: str) -> None:
        self._tmux("set-buffer", text)
        self._tmux("paste-buffer", "-p")

    def resize(self, columns: int, rows: int) -> None:
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self, *how: str) -> str:
        return "\n".join(line.rstrip() for line in self._tmux("capture-pane", "-p", *how).rstrip().split("\n"))

    def all(self) -> str:
        """With what has scrolled away."""
        return self.screen("-S", "-5000")

    def until(self, *words: str, timeout_s: float = 20) -> str:
        """Wait for all of these words on the screen."""
        return self.wait(lambda screen: all(one in screen for one in words), " and ".join(words), timeout_s)

    def wait(self, what: Callable[[str], bool], name: str, timeout_s: float = 20) -> str:
        deadline = time.monotonic() + timeout_s
        while not what(screen := self.screen()):
            assert time.monotonic() < deadline, f"no {name!r} on\n{screen}"
            time.sleep(0.05)
        return screen

    def idle(self) -> str:
        """The prompt is there and nothing runs."""
        return self.wait(lambda screen: "· idle" in screen.split("\n")[-1], "· idle")

    def shows(self, name: str, timeout_s: float = 10) -> None:
        """The screen is, or becomes, the one in `screens/<name>.txt`."""
        path = SCREENS / f"{name}.txt"
        if UPDATE:
            before = ""
            while (now := normal(self.screen())) != before:
                before = now
                time.sleep(0.7)
            path.write_text(now + "\n")
        expected = path.read_text().rstrip("\n")
        deadline = time.monotonic() + timeout_s
        while (now := normal(self.screen())) != expected:
            assert time.monotonic() < deadline, f"{path.name} has\n{expected}\n--- the screen has\n{now}"
            time.sleep(0.1)

    def close(self) -> None:
        subprocess.run(
            ["tmux", "-L", self._socket, "kill-server"], env=self._environment, capture_output=True, check=False
        )


def until_there(name: str) -> str:
    """A command that runs until the test has made this file in the session's workspace."""
    return f"until [ -e {name} ]; do sleep 0.1; done"


def normal(screen: str) -> str:
    """Without what differs from run to run."""
    for pattern, instead in VARIABLE:
        screen = pattern.sub(instead, screen)
    return screen

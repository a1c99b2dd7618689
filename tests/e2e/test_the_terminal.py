"""The chat on a real terminal: a pseudo-terminal, typed into and read from."""

import fcntl
import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.support import COMMAND, clean_environment

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\r")


class Terminal:
    """A chat in a terminal of 100 columns."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self._main, side = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, "chat"],
            env=clean_environment(data_dir, TERM="xterm", PROMPT_TOOLKIT_NO_CPR="1", COLUMNS="100", **environment),
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C becomes a signal
        )
        os.close(side)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._main, text.encode())

    def until(self, words: str, timeout_s: float = 30) -> str:
        """What came up to and with these words; it is then behind us."""
        deadline = time.monotonic() + timeout_s
        while words not in self.seen:
            assert time.monotonic() < deadline, f"no {words!r} in {self.seen!r}"
            if select.select([self._main], [], [], 0.2)[0]:
                self.seen += ESCAPES.sub("", os.read(self._main, 65536).decode("utf-8", "replace"))
        found, _, self.seen = self.seen.partition(words)
        return found + words


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    made = Terminal(tmp_path / "data", AGENT_SESSION_TOOLS__ASK='["write_file"]')
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_a_talk_with_a_tool_a_cancel_and_an_approval(terminal: Terminal) -> None:
    terminal.until("main>")
    terminal.type("run sleep 1 && echo finished\r")
    terminal.until("⚙ shell")
    terminal.until("\nfinished")
    terminal.until("main>")
    terminal.type("run sleep 50\r")
    terminal.until("⚙ shell")
    terminal.type("\x03")
    terminal.until("(cancelled)", 15)
    terminal.until("main>")
    terminal.type("write f asked for\r")
    terminal.until("? write_file asks to run")
    terminal.until("[y/N]")
    terminal.type("y\r")
    terminal.until("Wrote 9 bytes")
    terminal.until("main>")
    terminal.type("\x04")
    assert terminal.process.wait(15) == 0


def test_what_asks_is_shown_with_its_invisible_characters(terminal: Terminal) -> None:
    terminal.until("main>")
    terminal.type("write f a\u202eb\r")
    assert r"\u202e" in terminal.until("[y/N]")
    terminal.type("n\r")
    terminal.until("did not allow")

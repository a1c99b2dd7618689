"""The chat on a real terminal: a pseudo-terminal, typed into and read from."""

import fcntl
import json
import os
import pty
import re
import select
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    made = Terminal(
        tmp_path / "data", AGENT_SESSION_TOOLS__ASK='["write_file"]', AGENT_SESSION_TOOLS__SHELL__SANDBOX="none"
    )
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_a_talk_with_a_tool_a_cancel_and_an_approval(terminal: Terminal) -> None:
    terminal.until("main>")
    terminal.type("run sleep 1 && echo finished\r")
    terminal.until("⚙ shell")
    terminal.until("s  ok")
    terminal.until("finished")
    terminal.until("main>")
    terminal.type("run sleep 50\r")
    terminal.until("⚙ shell")
    terminal.type("\x03")
    terminal.until("(cancelled)", 15)
    terminal.until("main>")
    terminal.type("write f asked for\r")
    terminal.until("? write_file asks to run")
    terminal.until("allow? [y/a/n]")
    terminal.type("y\r")
    terminal.until("Wrote 9 bytes")
    terminal.until("main>")
    terminal.type("\x04")
    assert terminal.process.wait(15) == 0


def test_what_asks_is_shown_with_its_invisible_characters(terminal: Terminal) -> None:
    terminal.until("main>")
    terminal.type("write f a\u202eb\r")
    assert r"text: a\u202eb" in terminal.until("allow? [y/a/n]")
    terminal.type("n\r")
    terminal.until("why not?")
    terminal.type("\r")
    terminal.until("did not allow")


def test_the_hint_of_a_first_run_says_what_to_do_next(terminal: Terminal) -> None:
    hint = terminal.until("main>")
    assert "ANTHROPIC_API_KEY" in hint
    assert "/help" in hint


def command(data_dir: Path, *arguments: str, **how: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, *arguments],
        env=clean_environment(data_dir),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **how,
    )


def test_a_file_that_is_not_there_is_said_before_anything_starts(tmp_path: Path) -> None:
    done = command(tmp_path / "data", "chat", "--attach", "no-such-file", input="hi\n")
    assert done.returncode == 2
    assert "no-such-file is no file" in done.stderr
    assert not (tmp_path / "data").exists()


def test_files_go_with_the_first_message_only(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("of the file")
    said = "remember it\nwhat did I say?\n"
    done = command(tmp_path / "data", "chat", "--attach", str(tmp_path / "a.txt"), input=said)
    assert done.returncode == 0, done.stderr
    shown = command(tmp_path / "data", "history", "main", "--json").stdout.splitlines()
    lines = [line for line in map(json.loads, shown) if line["role"] == "user"]
    assert [[one["name"] for one in line.get("attachments") or []] for line in lines] == [["a.txt"], []]


def test_what_is_piped_into_run_is_part_of_its_message(tmp_path: Path) -> None:
    done = command(tmp_path / "data", "run", "remember this", "--session", "piped", input="line of a log\n")
    assert done.returncode == 0, done.stderr
    assert "line of a log" in done.stdout
    shown = command(tmp_path / "data", "history", "piped", "--json").stdout
    assert "Standard input:" in shown
    silent, held = os.pipe()
    try:
        done = command(tmp_path / "data", "run", "remember only this", "--no-stdin", stdin=silent)
    finally:
        os.close(silent)
        os.close(held)
    assert done.stdout == "I will remember: only this\n"

"""What a typed line means, and what an answer to a card means."""

import io
import os
from pathlib import Path

import pytest

from agent_session.terminal import commands as C
from agent_session.terminal import standard_input
from agent_session.terminal.approvals import ALLOW, ALWAYS, DENY, LATER, Answer, Card, answer_to
from agent_session.terminal.commands import Typed, parse
from agent_session.terminal.standard_input import with_input


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hello /status", Typed(C.MESSAGE, "hello /status")),
        ("  indented\n  code", Typed(C.MESSAGE, "  indented\n  code")),
        ("/etc/hosts is broken", Typed(C.MESSAGE, "/etc/hosts is broken")),
        ("/2 of them", Typed(C.MESSAGE, "/2 of them")),
        ("/Status", Typed(C.SESSION, "/Status")),
        ("/model anthropic:claude", Typed(C.SESSION, "/model anthropic:claude")),
        ("!stop that", Typed(C.STEER, "stop that")),
        ("!", Typed(C.NOTHING)),
        ("   ", Typed(C.NOTHING)),
        ("/exit", Typed(C.QUIT)),
        ("/expand", Typed(C.EXPAND, number=1)),
        ("/expand 3", Typed(C.EXPAND, number=3)),
        ("/switch work", Typed(C.SWITCH, "work")),
        ("/attach ~/a b.png", Typed(C.ATTACH, "~/a b.png")),
    ],
)
def test_a_line(line: str, expected: Typed) -> None:
    assert parse(line) == expected


@pytest.mark.parametrize("line", ["/expand all", "/expand 0", "/switch", "/attach", "/frobnicate"])
def test_a_wrong_command_is_not_sent_and_says_what_to_do(line: str) -> None:
    assert parse(line).kind in (C.WRONG, C.UNKNOWN)
    assert line.split()[0] in parse(line).text


def test_help_names_every_command() -> None:
    words = " ".join(C.help_lines())
    assert all(name in words for name in (*C.OF_SESSION, *C.OF_TERMINAL))


CARD = Card(call="c", tool="shell", args='{"command": "git push"}', digest="d", why="tools.ask", pattern="git push *")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("y", Answer(ALLOW)),
        ("YES ", Answer(ALLOW)),
        ("a", Answer(ALWAYS)),
        ("n", Answer(DENY)),
        ("n not today", Answer(DENY, "not today")),
        ("", Answer(LATER)),
        ("yes please do", None),
        ("no, take the other branch", None),
        ("another message", None),
    ],
)
def test_only_the_keys_are_answers_all_else_is_a_message(line: str, expected: Answer | None) -> None:
    assert answer_to(CARD, line) == expected


def test_always_is_offered_only_with_a_pattern() -> None:
    bare = Card(call="c", tool="shell", args="{}", digest="d")
    assert answer_to(bare, "a") is None
    assert "[a]" not in "\n".join(bare.lines())
    assert "    [a] always: git push * for this session" in CARD.lines()


def test_a_card_shows_the_whole_call_and_why() -> None:
    assert CARD.lines()[:3] == ["  ? shell asks to run:", "      command: git push", "    why it asks: tools.ask"]


def test_what_is_piped_in_stands_in_a_fence_that_it_cannot_leave() -> None:
    assert with_input("why?", "") == with_input("why?", " \n") == "why?"
    assert with_input("why?", "log\n") == "why?\n\nStandard input:\n\n```\nlog\n```"
    assert with_input("why?", "```\nx\n```").count("````") == 2


def test_a_pipe_is_read_to_its_end_and_a_silent_one_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_input, "NOTE_S", 0.02)
    monkeypatch.setattr(standard_input, "SILENT_S", 0.05)
    monkeypatch.setattr("sys.stderr", io.StringIO())  # nobody sits there
    said: list[str] = []
    out, into = os.pipe()
    assert standard_input.piped(None, said.append, out) == ""
    assert "going on without it" in said[0]
    os.write(into, b"one\r\ntwo \xff")
    os.close(into)
    assert standard_input.piped(None, said.append, out) == "one\ntwo \ufffd"
    assert standard_input.piped(None, said.append, out) == ""
    assert standard_input.piped(False, said.append, out) == ""
    os.close(out)
    assert standard_input.piped(None, said.append, out) == ""


def test_the_prompts_history_is_private_and_bounded(tmp_path: Path) -> None:
    from agent_session.terminal.screen import HISTORY_BYTES, HISTORY_KEPT_BYTES, history_in

    path = tmp_path / "cli_history"
    path.write_text("".join(f"\n# 2026\n+{number:08} {'x' * 1000}\n" for number in range(1100)))
    path.chmod(0o644)
    history = history_in(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size <= HISTORY_KEPT_BYTES < HISTORY_BYTES
    assert next(iter(history.load_history_strings())).startswith("00001099 ")
    assert list(history_in(tmp_path / "no" / "folder").load_history_strings()) == []

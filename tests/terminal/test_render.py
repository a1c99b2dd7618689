"""What a block looks like, and that nothing which came from elsewhere moves the cursor."""

import pytest

from agent_session.domain.cards import argument_lines, visible
from agent_session.terminal.blocks import Block
from agent_session.terminal.look import Look, look_of
from agent_session.terminal.render import Renderer, is_diff
from agent_session.terminal.text import clean, seconds, shortened, summary

GREY = Renderer(Look(colour=False), lambda: 60)
COLOURED = Renderer(Look(), lambda: 60)
DIFF = "--- a\n+++ a\n@@ -1 +1 @@\n-old\n+new\n same"


def test_markdown_is_rendered_without_loss() -> None:
    drawn = GREY.markdown("In <module> of **bold** [here](https://x.example)\nnext line")
    assert drawn == "In <module> of bold here (https://x.example)\nnext line"


def test_lists_tables_and_headings() -> None:
    assert GREY.markdown("# Title") == "Title"
    assert GREY.markdown("- one\n  - two") == " • one\n    • two"
    assert GREY.markdown("7. seven") == " 7 seven"
    assert [
        line.split() for line in GREY.markdown("| a | b |\n|---|---|\n| 1 | 2 |").split("\n") if "─" not in line
    ] == [
        ["a", "b"],
        ["1", "2"],
    ]


def test_code_keeps_its_lines_and_its_indentation() -> None:
    code = Block("if x:\n    y()\n\nz", code=True, language="python")
    assert GREY.block(code) == "  if x:\n      y()\n\n  z"
    assert GREY.block(Block("plain", code=True, language="no-such-language")) == "  plain"


def test_nothing_is_wider_than_the_screen() -> None:
    for text in ("word " * 50, "x" * 200, "| " + "c" * 80 + " | b |\n|---|---|\n| 1 | 2 |"):
        assert max(len(line) for line in GREY.markdown(text).split("\n")) <= 59


def test_colours_come_only_where_they_may() -> None:
    assert "\x1b[1m" in COLOURED.markdown("**bold**")
    assert "\x1b" not in GREY.markdown("**bold** `code`") + GREY.block(Block("x = 1", code=True, language="python"))


@pytest.mark.parametrize("renderer", [GREY, COLOURED, Renderer(Look(screen=False, colour=False), lambda: 60)])
def test_escape_sequences_of_others_never_reach_the_terminal(renderer: Renderer) -> None:
    drawn = renderer.block(Block("a\x1b[2Jb\x1b]0;title\x07c\rd\x9b1m\u202ee"))
    assert "abc" in drawn
    assert not {"\x1b[2J", "\x1b]", "\r", "\x07", "\x9b", "\u202e"} & set(drawn)
    assert "\x1b[2J" not in drawn
    assert "\x1b]" not in drawn


def test_a_diff_is_coloured_by_line() -> None:
    assert is_diff(DIFF)
    assert "\x1b[31m-old\x1b[0m\n\x1b[32m+new\x1b[0m\n same" in COLOURED.diff(DIFF)
    assert COLOURED.diff("- a list\n+ of things") == "- a list\n+ of things"


def test_ascii_only_where_the_locale_says_so() -> None:
    drawn = Renderer(Look(colour=False, unicode=False), lambda: 60).markdown("- one\n\n> quote\n\n| a |\n|---|\n| 1 |")
    assert drawn.isascii()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm", "LANG": "de_DE.UTF-8"}, Look()),
        ({"TERM": "xterm", "NO_COLOR": "1"}, Look(colour=False)),
        ({"TERM": "dumb", "LANG": "C.UTF-8"}, Look(colour=False, screen=False)),
        ({}, Look(colour=False, screen=False)),
        ({"TERM": "xterm", "LC_ALL": "C"}, Look(unicode=False)),
        ({"TERM": "xterm", "LANG": "de_DE.ISO-8859-1"}, Look(unicode=False)),
        ({"TERM": "xterm", "LC_ALL": "en_US.utf8", "LANG": "C"}, Look()),
    ],
)
def test_what_a_terminal_can_do(environment: dict[str, str], expected: Look) -> None:
    assert look_of(environment, "utf-8", tty=True) == expected


def test_arguments_are_shown_whole_and_with_nothing_hidden() -> None:
    assert argument_lines('{"command": "ls\\nrm \\u202e x", "n": 3}') == [
        "command: ls",
        r"       | rm \u202e x",
        "n: 3",
    ]
    assert argument_lines("no json\x07") == [r"no json\x07"]
    assert summary('{"path": "a b", "text": "t"}') == "a b"
    assert summary('{"n": 3}') == '{"n": 3}'
    assert summary("{}") == ""
    assert visible("a\tb") == r"a\tb"
    assert clean("a\tb\n\u0639\u200f") == "a\tb\n\u0639\u200f"
    assert shortened("two\nlines", 6) == "two l…"


def test_durations() -> None:
    assert [seconds(ms) for ms in (40, 5_000, 42_400, 125_000)] == ["0.0 s", "5.0 s", "42 s", "2:05 min"]

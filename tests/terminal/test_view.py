"""From events to lines: each answer once, whoever brings it and however often the bus is asked again."""

import re
from typing import Any

import pytest

from agent_session.domain.ids import scoped_id
from agent_session.live.events import (
    APPROVAL,
    DELTA,
    RETRY,
    STEP,
    TOOL_FINISHED,
    TOOL_OUTPUT,
    TOOL_STARTED,
    TURN_ENDED,
    TURN_STARTED,
    LiveEvent,
)
from agent_session.terminal.look import Look
from agent_session.terminal.render import Renderer
from agent_session.terminal.view import Said, View


class Paper:
    """A face that only writes down."""

    def __init__(self, streams_below: bool = True) -> None:
        self.streams_below = streams_below
        self.lines: list[str] = []

    def write(self, text: str) -> None:
        self.lines += text.split("\n")

    def refresh(self) -> None:
        return

    def leave(self) -> None:
        return

    async def run(self, chat: Any) -> None:
        return


@pytest.fixture
def paper() -> Paper:
    return Paper()


def view_on(paper: Paper) -> View:
    look = Look(colour=False, screen=paper.streams_below)
    return View(paper, look, Renderer(look, lambda: 80), "main")


def event(kind: str, text: str = "", **more: Any) -> LiveEvent:
    return LiveEvent(session="main", kind=kind, text=text, **{"turn": "t-1", "step": 1, **more})


def test_what_was_streamed_is_not_printed_again_by_the_end_or_by_the_reply(paper: Paper) -> None:
    view = view_on(paper)
    for one in (event(STEP), event(DELTA, "One.\n\nT"), event(DELTA, "wo."), event(TURN_ENDED, "One.\n\nTwo.")):
        view.show(replaced(one, outcome="answered"))
    view.end("t-1", "answered", "One.\n\nTwo.")
    assert paper.lines == ["One.", "", "Two."]
    assert not view.now.turn


def replaced(one: LiveEvent, **more: Any) -> LiveEvent:
    from dataclasses import replace

    return replace(one, **more) if one.kind == TURN_ENDED else one


def test_the_missing_end_of_a_stream_comes_from_the_reply(paper: Paper) -> None:
    view = view_on(paper)
    view.show(event(DELTA, "One.\n\nTw"))
    view.end("t-1", "answered", "One.\n\nTwo.")
    assert paper.lines == ["One.", "", "Two."]


def test_a_reply_without_a_bus_is_printed_once(paper: Paper) -> None:
    view = view_on(paper)
    view.end("t-1", "answered", "One.")
    view.show(event(TURN_ENDED, "One.", outcome="answered"))
    view.show(event(DELTA, "One."))
    assert paper.lines == ["One."]


def test_a_bus_that_is_asked_again_repeats_nothing(paper: Paper) -> None:
    view = view_on(paper)
    before = [
        event(TURN_STARTED, "hello", call="m1", sender="ada", note="slack"),
        event(STEP),
        event(TOOL_STARTED, '{"command": "ls"}', tool="shell", call="c1"),
        event(TOOL_FINISHED, "out", tool="shell", call="c1", outcome="ok", ms=5_000),
        event(STEP, step=2),
        event(DELTA, "One.\n\nTw", step=2),
    ]
    for one in before:
        view.show(one)
    view.ask_again()
    for one in [
        *before[:-1],
        event(DELTA, "One.\n\nTwo.", step=2),
        event(TURN_ENDED, "One.\n\nTwo.", outcome="answered"),
    ]:
        view.show(one)
    assert paper.lines[0] == "ada (slack): hello"
    assert re.fullmatch(r"  ⚙ shell  ls …+ 5\.0 s  ok", paper.lines[1])
    assert paper.lines[2:] == ["One.", "", "Two."]


def test_an_attempt_that_broke_off_is_not_mixed_with_the_next(paper: Paper) -> None:
    view = view_on(paper)
    for one in (event(DELTA, "Half.\n\nAnd a ha"), event(RETRY, "rate limited: retrying in 8 s (3rd try)")):
        view.show(one)
    for one in (event(STEP), event(DELTA, "Whole."), event(TURN_ENDED, "Whole.", outcome="answered")):
        view.show(one)
    note = "  rate limited: retrying in 8 s (3rd try) (the answer above broke off and begins again)"
    assert paper.lines == ["Half.", note, "Whole."]


def test_own_words_are_not_repeated_and_those_that_waited_stand_where_they_begin(paper: Paper) -> None:
    view = view_on(paper)
    view.mine = {"m1": Said("shown already"), "m2": Said("waited\ntwo lines", echoed=False)}
    for id, text in (("m1", "shown already"), ("m2", "waited\ntwo lines"), ("m3", "of another\x1b[2J")):
        call = scoped_id("cli", "local:ada", id)
        view.show(event(TURN_STARTED, text, call=call, sender="local:ada", note="cli"))
        view.show(event(TURN_STARTED, text, call=call, sender="local:ada", note="cli"))
    assert paper.lines == ["main> waited", "      two lines", "ada (cli): of another"]
    assert view.mine == {}


@pytest.mark.parametrize(
    ("outcome", "text", "expected"),
    [
        ("cancelled", "", "(cancelled)"),
        ("interrupted", "", "(interrupted)"),
        ("answered", "", "(no answer)"),
        ("failed", "Sorry.", "error: Sorry. (agent-session logs --id e-1)"),
    ],
)
def test_how_else_a_turn_ends_is_said(paper: Paper, outcome: str, text: str, expected: str) -> None:
    view = view_on(paper)
    view.show(event(STEP))
    view.show(event(TURN_ENDED, text, outcome=outcome, note="e-1"))
    assert paper.lines == [expected]


def test_what_runs_stands_below_until_it_ends(paper: Paper) -> None:
    view = view_on(paper)
    view.show(event(TOOL_STARTED, '{"command": "pytest -x"}', tool="shell", call="c1"))
    view.show(event(TOOL_OUTPUT, "one\ntwo\nthree\nfour\n", call="c1"))
    assert view.live(80, 24) == ["  ⚙ shell  pytest -x  0 s", "    two", "    three", "    four"]
    assert view.live(80, 12)[1:] == ["    four"]
    view.show(event(TOOL_FINISHED, tool="shell", call="c1", outcome="error", ms=42_000))
    assert view.live(80, 24) == []
    assert paper.lines[0].endswith("42 s  error")
    assert len(paper.lines[0]) <= 80


def test_an_edit_shows_its_difference(paper: Paper) -> None:
    view = view_on(paper)
    view.show(event(TOOL_FINISHED, "--- f\n+++ f\n@@ -1 +1 @@\n-a\n+b", tool="edit_file", call="c", outcome="ok"))
    assert paper.lines[1:] == ["    --- f", "    +++ f", "    @@ -1 +1 @@", "    -a", "    +b"]


def test_a_terminal_without_a_cursor_gets_lines_as_they_come() -> None:
    paper = Paper(streams_below=False)
    view = view_on(paper)
    view.show(event(DELTA, "**One**\nTw"))
    assert paper.lines == ["**One**"]
    view.show(event(TOOL_STARTED, '{"command": "ls"}', tool="shell", call="c1"))
    view.show(event(APPROVAL, "{}", tool="shell", call="c1"))
    assert paper.lines == ["**One**", "Tw", "  ⚙ shell  ls"]


@pytest.mark.parametrize(("model", "shown"), [("anthropic:x", True), ("offline", False)])
def test_a_turn_ends_with_what_it_took(paper: Paper, model: str, shown: bool) -> None:
    used = {"input_tokens": 1_200, "output_tokens": 34, "cached_tokens": 1_000, "cost_microusd": 12_300}
    ended = LiveEvent(session="main", kind=TURN_ENDED, turn="t", outcome="answered", text="Done.", model=model, **used)
    view_on(paper).show(ended)
    assert ("  1.2k tokens (1.0k cached) · $0.0123" in paper.lines) == shown

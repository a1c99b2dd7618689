"""The chat as a person sees it: the real program on a real screen."""

import asyncio
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.e2e.support import Up, running, wait_until
from tests.e2e.tmux import Tmux, until_there
from tests.fakes import providers
from tests.fakes.providers import fake_provider

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

SETTINGS = {"AGENT_SESSION_TOOLS__ASK": '["write_file"]', "AGENT_SESSION_TOOLS__SHELL__SANDBOX": "none"}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("tmux") / "data", **SETTINGS) as up:
        yield up


@pytest.fixture
def opens(up: Up) -> Iterator[Callable[..., Tmux]]:
    """Chats of the shared service; each closes in the end."""
    opened: list[Tmux] = []

    def open(*arguments: str, data_dir: Path = up.data_dir, **how: Any) -> Tmux:
        opened.append(Tmux(data_dir, *arguments, **{**SETTINGS, **how}))
        return opened[-1]

    yield open
    for one in opened:
        one.close()


def until_queued(up: Up, key: str, count: int) -> None:
    """The session has so many messages that wait; what the screen shows may not have arrived there yet."""
    wait_until(lambda: up.status(key)["queue"] == count)


class SlowAnswer:
    """A provider whose answer comes in pieces, each when the test says so."""

    def __init__(self, *pieces: str) -> None:
        self.pieces, self.go = pieces, [threading.Event() for _ in pieces]
        self.url = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True).start()
        assert self._ready.wait(10)

    async def _serve(self) -> None:
        async with fake_provider() as provider:
            self._done = asyncio.Event()
            provider.will(self._step)
            self.url = provider.url
            self._ready.set()
            await self._done.wait()

    async def _step(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece, go in zip(self.pieces, self.go, strict=True):
            await asyncio.to_thread(go.wait, 30)
            await response.write(providers._chunk({"role": "assistant", "content": piece}))
        await response.write(providers._chunk({}, "stop"))
        await response.write(providers._chunk({}, usage={"prompt_tokens": 11, "completion_tokens": 7}))
        await response.write(b"data: [DONE]\n\n")
        return response

    def stop(self) -> None:
        for go in self.go:
            go.set()
        self._loop.call_soon_threadsafe(self._done.set)


def test_an_answer_streams_as_markdown_in_every_terminal_and_stands_there_once(
    tmp_path: Path, opens: Callable[..., Tmux]
) -> None:
    first, last = "# A plan\n\nIt has **two", "** parts:\n\n- one\n- two\n\n```python\nprint(1)\n```\n\nThat is `all`."
    model = SlowAnswer(first, last)
    settings = {"AGENT_SESSION_MODEL__NAME": "openai-chat:fake", "AGENT_SESSION_MODEL__BASE_URL": model.url + "/v1"}
    try:
        with running(tmp_path / "data", OPENAI_API_KEY="sk-none", **settings):
            one = opens(data_dir=tmp_path / "data")
            one.idle()
            one.type("make a plan")
            model.go[0].set()
            one.until("A plan", "It has **two")
            one.shows("streaming")
            other = opens(data_dir=tmp_path / "data")
            other.until("make a plan", "A plan", "It has **two")
            model.go[1].set()
            one.idle()
            one.shows("streamed")
            other.shows("streamed_elsewhere")
            assert one.all().count("It has two parts:") == other.all().count("It has two parts:") == 1
            other.type("thanks")
            one.until("(cli): thanks")
    finally:
        model.stop()


def test_a_talk_with_tools_and_the_commands_that_look(up: Up, opens: Callable[..., Tmux]) -> None:
    chat = opens("talk")
    chat.idle()
    chat.shows("start")
    chat.type(f"run {until_there('go')} && echo finished")
    chat.until("⚙ shell  until [ -e go ]", "· shell ")
    (up.workspace("talk") / "go").touch()
    chat.until("\nfinished")
    chat.type("/expand")
    chat.until("command: until [ -e go ]", "│ finished")
    chat.type("/expand 7")
    chat.until("no such tool call")
    chat.type("/frobnicate")
    chat.until("there is no command /frobnicate; /help lists them")
    chat.type("/etc/hosts is a path")
    chat.until("I heard “/etc/hosts is a path”")
    chat.type("/help")
    chat.until("cancel the turn, or clear the line")
    chat.idle()
    chat.shows("help")
    wait_until(lambda: up.status("talk")["state"] == "idle")
    chat.type("/sessions")
    chat.until("* talk · idle")
    chat.type("/switch elsewhere")
    chat.until("elsewhere · idle")
    chat.type("remember green")
    chat.until("I will remember: green")
    chat.type("/switch talk")
    chat.until("talk> /etc/hosts is a path", "\ntalk>")
    chat.type("/quit")
    chat.until("left with 0")


def test_words_while_a_turn_runs_are_queued_and_a_bang_steers(up: Up, opens: Callable[..., Tmux]) -> None:
    chat = opens("queue")
    chat.idle()
    chat.type(f"run {until_there('go')} && echo slept")
    chat.until("· shell ")
    chat.type("remember one")
    chat.until("queued (1): remember one", "1 queued")
    chat.type("!what did I say?")
    chat.until("steering: what did I say?")
    until_queued(up, "queue", 2)
    (up.workspace("queue") / "go").touch()
    chat.until("slept", "I will remember: one")
    chat.idle()
    chat.shows("queued")
    wait_until(lambda: up.status("queue")["state"] == "idle")
    chat.type("/status")
    chat.until("queue · idle · offline")
    chat.keys("C-d")
    chat.until("left with 0")


def test_ctrl_c_cancels_a_turn_clears_the_line_and_twice_leaves(opens: Callable[..., Tmux]) -> None:
    chat = opens("cancel")
    chat.idle()
    chat.type("sleep 50")
    chat.until("· thinking ")
    chat.type("/status")  # is answered at once
    chat.until("cancel · running", "step 1 (t-")
    chat.keys("C-c")
    chat.until("(cancelled)")
    chat.idle()
    chat.keys("h", "a", "l", "f")
    chat.until("cancel> half")
    chat.keys("C-c")
    chat.wait(lambda screen: "cancel> half" not in screen, "an empty line")
    chat.type("sleep 50")
    chat.until("· thinking ")
    chat.keys("C-c")
    chat.keys("C-c")
    chat.until("left with 0")
    again = opens("cancel")
    again.until("cancel> sleep 50", "(cancelled)")
    again.type("sleep 50")
    again.until("· thinking ")
    again.keys("C-d")
    again.until("the turn goes on; 'agent-session chat cancel' shows it", "left with 0")


def test_several_lines_by_alt_enter_and_by_paste(opens: Callable[..., Tmux]) -> None:
    chat = opens("lines")
    chat.idle()
    chat.keys("r", "e", "m", "e", "m", "b", "e", "r", "Space", "a", "M-Enter", "b")
    chat.until("> remember a\n       b")
    chat.keys("Enter")
    chat.until("I will remember: a\nb")
    chat.paste("remember x\ny\nz")
    chat.until("> remember x\n       y\n       z")
    chat.keys("Enter")
    chat.until("I will remember: x\ny\nz")
    chat.idle()
    chat.shows("lines")


def test_forty_columns_and_a_window_that_grows(opens: Callable[..., Tmux]) -> None:
    chat = opens("narrow", columns=40, rows=20)
    chat.idle()
    chat.type("run echo a command that is longer than the screen is wide")
    chat.until("\na command that is longer")
    chat.idle()
    chat.shows("narrow")
    chat.resize(100, 20)
    chat.type("remember wide")
    chat.until("I will remember: wide", "tokens · offline")


def test_a_call_that_asks_is_a_card_and_its_keys_swallow_no_words(opens: Callable[..., Tmux]) -> None:
    chat = opens("ask")
    chat.idle()
    chat.type("write f a\u202eb")
    chat.until("? write_file asks to run:", r"a\u202eb", "allow? [y/a/n]")
    chat.shows("card")
    chat.type("yet another word")
    chat.until("queued (1): yet another word", "allow? [y/a/n]")
    chat.keys("Enter")
    chat.until("it waits", "ask> ")
    again = opens("ask")
    again.until("? write_file asks to run:", "allow? [y/a/n]")
    again.type("y")
    again.until("Wrote 5 bytes")
    chat.until("write_file: decided elsewhere (allow by ", "Wrote 5 bytes")
    chat.idle()
    chat.type("write g other")
    chat.until("text: other", "allow? [y/a/n]")
    chat.type("n")
    chat.until("why not?")
    chat.type("not on a Saturday")
    chat.until("write_file denied: not on a Saturday", "did not allow")
    chat.idle()
    chat.type("write g one")
    chat.until("text: one", "allow? [y/a/n]")
    chat.type("a")
    chat.until("write_file allowed always: g", "Wrote 3 bytes")
    chat.type("write g again")
    chat.until("Wrote 5 bytes to g")


def test_without_colours_there_are_none(opens: Callable[..., Tmux]) -> None:
    chat = opens("grey", NO_COLOR="1")
    chat.idle()
    chat.type("run echo **bold**")
    chat.until("\nbold")
    chat.idle()
    assert "\x1b[" not in chat.screen("-e")
    coloured = opens("colour")
    coloured.idle()
    coloured.type("run echo **bold**")
    coloured.until("\nbold")
    assert re.search(r"\x1b\[1m(\x1b\[39m)?bold", coloured.screen("-e"))


def test_a_dumb_terminal_gets_plain_lines(up: Up, opens: Callable[..., Tmux]) -> None:
    chat = opens("dumb", TERM="dumb")
    chat.until("dumb>")
    chat.type(f"run {until_there('go')} && echo finished")
    chat.until("⚙ shell")
    chat.type("remember queued")
    chat.until("queued (1): remember queued")
    until_queued(up, "dumb", 1)
    (up.workspace("dumb") / "go").touch()
    chat.until("I will remember: queued")
    chat.wait(lambda screen: screen.endswith("dumb>"), "a prompt")
    chat.shows("dumb")
    chat.type("sleep 50")
    chat.until("dumb> sleep 50")
    chat.keys("C-c")
    chat.until("(cancelled)")
    chat.wait(lambda screen: screen.endswith("dumb>"), "a prompt")
    chat.keys("C-d")
    chat.until("left with 0")


def test_a_locale_without_utf_8_gets_ascii(opens: Callable[..., Tmux]) -> None:
    chat = opens("ascii", LC_ALL="C")
    chat.until("ascii - idle")
    chat.type("run echo finished")
    chat.until("\nfinished")
    chat.until("ascii - idle")
    chat.shows("ascii")


def test_without_the_live_bus_answers_and_cards_come_all_the_same(up: Up, opens: Callable[..., Tmux]) -> None:
    away = up.data_dir / "live.sock.away"
    (up.data_dir / "live.sock").rename(away)
    try:
        chat = opens("deaf")
        chat.idle()
        chat.type(f"run {until_there('go')} && echo finished")
        chat.until("· shell ")
        chat.type("remember queued")
        chat.until("queued (1): remember queued")
        until_queued(up, "deaf", 1)
        (up.workspace("deaf") / "go").touch()
        chat.until("\nfinished\ndeaf> remember queued\nI will remember: queued")
        chat.type("write f x")
        chat.until("? write_file asks to run:", "allow? [y/a/n]")
        chat.type("y")
        chat.until("Wrote 1 bytes")
    finally:
        away.rename(up.data_dir / "live.sock")

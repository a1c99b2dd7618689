"""A terminal whose cursor can be moved: an editable prompt and a status line at the bottom, for good;
what is said and done goes above it into the scrollback and is never rewritten.

Knows prompt_toolkit and nothing of sessions.
"""

import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Size
from prompt_toolkit.filters import Condition, is_searching
from prompt_toolkit.formatted_text import ANSI, AnyFormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import BufferControl, ConditionalContainer, FormattedTextControl, HSplit, Layout, Window
from prompt_toolkit.layout.dimension import Dimension
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.widgets import SearchToolbar

from agent_session.terminal.complete import ChatCompleter
from agent_session.terminal.face import Talk
from agent_session.terminal.look import BOLD, DIM, Look

HISTORY_BYTES, HISTORY_KEPT_BYTES = 1_000_000, 500_000
INPUT_ROWS = 10


class Screen:
    """The whole of it. `write` and `refresh` may be called at any time, also before and after `run`."""

    streams_below = True

    def __init__(self, look: Look, history: Path, sessions: Callable[[], Awaitable[list[str]]]) -> None:
        self._look = look
        self._chat: Talk | None = None
        self._typed_since = time.monotonic()
        self._search = SearchToolbar()
        self._buffer = Buffer(
            multiline=True,
            history=history_in(history),
            completer=ChatCompleter(sessions),
            complete_while_typing=False,
            enable_history_search=False,
            on_text_changed=self._note_typing,
        )
        self._was_empty = True
        self._output: Output = Vt100_Output(sys.stdout, size_of_terminal, os.environ.get("TERM"), enable_cpr=False)
        self._app: Application[None] = Application(
            layout=self._layout(),
            key_bindings=self._keys(),
            output=self._output,
            color_depth=ColorDepth.DEPTH_4_BIT if look.colour else ColorDepth.DEPTH_1_BIT,
            erase_when_done=True,
        )
        self._app.ttimeoutlen = 0.2  # how long a lone Escape waits to become Alt-something

    # ---- what a chat uses

    @property
    def width(self) -> int:
        return self._output.get_size().columns

    def write(self, text: str) -> None:
        """Erase what stands below, print, and let it be drawn anew."""
        if self._app.is_running:
            self._app.renderer.erase(leave_alternate_screen=False)
        self._output.write_raw(text.replace("\n", "\r\n") + "\r\n")
        self._output.flush()
        self._app.invalidate()

    def refresh(self) -> None:
        self._app.invalidate()

    async def run(self, chat: Talk) -> None:
        self._chat = chat
        await self._app.run_async()

    def leave(self) -> None:
        if self._app.is_running and not self._app.is_done:
            self._app.exit()

    # ---- how it looks

    def _layout(self) -> Layout:
        live = Window(FormattedTextControl(self._live), dont_extend_height=True, wrap_lines=False)
        field = Window(
            BufferControl(self._buffer, search_buffer_control=self._search.control),
            get_line_prefix=self._prefix,
            wrap_lines=True,
            dont_extend_height=True,
            height=Dimension(min=1, max=INPUT_ROWS),
        )
        status = Window(FormattedTextControl(self._status), height=1, dont_extend_height=True)
        has_live = Condition(lambda: bool(self._live_lines()))
        below = HSplit([CompletionsMenu(max_height=6, scroll_offset=1), self._search, status])
        return Layout(HSplit([ConditionalContainer(live, has_live), field, below]), focused_element=field)

    def _live_lines(self) -> list[str]:
        size = self._output.get_size()
        return list(self._chat.live(size.columns, size.rows)) if self._chat else []

    def _live(self) -> AnyFormattedText:
        return ANSI("\n".join(self._live_lines()))

    def _prefix(self, line: int, wrapped: int) -> AnyFormattedText:
        prompt = self._chat.prompt if self._chat else ""
        return ANSI(self._look.paint(prompt, BOLD)) if line == 0 and wrapped == 0 else " " * len(prompt)

    def _status(self) -> AnyFormattedText:
        return ANSI(self._look.paint(self._chat.status(self.width), DIM)) if self._chat else ""

    # ---- what is typed

    def _note_typing(self, buffer: Buffer) -> None:
        if self._was_empty and buffer.text:
            self._typed_since = time.monotonic()
        self._was_empty = not buffer.text

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        keys.add("enter", filter=~is_searching)(self._enter)
        keys.add("escape", "enter")(_new_line)
        keys.add("c-c")(self._interrupt)
        keys.add(Keys.SIGINT)(self._interrupt)
        keys.add("c-d", filter=Condition(lambda: not self._buffer.text))(self._end)
        keys.add("c-z")(_suspend)
        return keys

    def _enter(self, event: KeyPressEvent) -> None:
        text = self._buffer.text
        since = self._typed_since if text else time.monotonic()
        plain = self._chat is not None and self._chat.prompt.endswith("> ")
        self._buffer.reset(append_to_history=plain and bool(text.strip()) and not text.startswith(" "))
        self._was_empty = True
        if self._chat is not None:
            self._chat.typed(text, fresh_since=since)

    def _end(self, event: KeyPressEvent) -> None:
        self.leave()

    def _interrupt(self, event: KeyPressEvent) -> None:
        had_text = bool(self._buffer.text)
        self._buffer.reset()
        self._was_empty = True
        if self._chat is not None:
            self._chat.interrupted(had_text)


def _new_line(event: KeyPressEvent) -> None:
    event.current_buffer.insert_text("\n")


def _suspend(event: KeyPressEvent) -> None:
    event.app.suspend_to_background()


def size_of_terminal() -> Size:
    """As it is at this moment; of one that does not know, what is usual."""
    try:
        found = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        return Size(rows=24, columns=80)
    return Size(rows=found.lines or 24, columns=found.columns or 80)


def history_in(path: Path) -> History:
    """The prompt's history, private and bounded; in memory where the file cannot be."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        path.chmod(0o600)
        if path.stat().st_size > HISTORY_BYTES:
            kept = path.read_bytes()[-HISTORY_KEPT_BYTES:]
            whole = kept[kept.find(b"\n\n# ") + 1 :]
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_bytes(whole)
            temporary.chmod(0o600)
            os.replace(temporary, path)
        return FileHistory(path)
    except OSError:
        return InMemoryHistory()


__all__ = ["Screen", "history_in"]

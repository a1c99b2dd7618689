"""Blocks as text for the terminal: Markdown by rich, code, diffs. Imports rich only when something is drawn."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent_session.terminal.blocks import Block
from agent_session.terminal.look import CYAN, DIM, GREEN, RED, Look
from agent_session.terminal.text import clean

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDEST = 110  #: longer lines are hard to read
PADDING = re.compile(r"[ ]+((?:\x1b\[[0-9;]*m)*)$", re.MULTILINE)
DIFF_HEAD = re.compile(r"^--- .*\n\+\+\+ ", re.MULTILINE)


class Renderer:
    """Draws for one terminal, at the width it has at that moment."""

    def __init__(self, look: Look, width: Callable[[], int]) -> None:
        self._look, self._width = look, width

    @property
    def width(self) -> int:
        return max(20, min(self._width() - 1, WIDEST))  # a full last column wraps when the window shrinks

    def block(self, block: Block) -> str:
        """A block without the newline at its end."""
        text = clean(block.text)
        if not self._look.screen:
            return text
        return self._code(text, block.language, block.indent + 2) if block.code else self.markdown(text)

    def markdown(self, text: str) -> str:
        from agent_session.terminal.markdown import PlainMarkdown

        return self._drawn(PlainMarkdown(text))

    def _code(self, text: str, language: str, indent: int) -> str:
        from rich.padding import Padding
        from rich.syntax import Syntax

        syntax = Syntax(text, language or "text", theme="ansi_dark", background_color="default", word_wrap=True)
        return self._drawn(Padding(syntax, (0, 0, 0, min(indent, 8))), strip=False)

    def _drawn(self, what: "RenderableType", *, strip: bool = True) -> str:
        console = self._console()
        console.print(what)
        drawn = PADDING.sub(r"\1", self._look.words(console.file.getvalue()))  # type: ignore[attr-defined]
        return drawn.strip("\n") if strip else drawn.rstrip("\n")

    def _console(self) -> "Console":
        from rich.console import Console
        from rich.theme import Theme

        return Console(
            theme=Theme({"markdown.code": "bold cyan", "markdown.h1": "bold"}),  # no backgrounds: light terminals
            file=io.StringIO(),
            width=self.width,
            force_terminal=True,
            color_system="standard" if self._look.colour else None,
            legacy_windows=False,
            highlight=False,
            emoji=False,
            markup=False,
        )

    def diff(self, text: str) -> str:
        """Lines of a unified diff, coloured; other text as it is."""
        if not is_diff(text):
            return clean(text)
        styles = {"+": GREEN, "-": RED, "@": CYAN}
        return "\n".join(
            self._look.paint(line, DIM if line.startswith(("+++", "---")) else styles.get(line[:1], ""))
            if line[:1] in styles
            else line
            for line in clean(text).split("\n")
        )


def is_diff(text: str) -> bool:
    return bool(DIFF_HEAD.search(text))

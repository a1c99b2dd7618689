"""Rich's Markdown, quieter and without loss: headings on the left, links with their address, line breaks and
angle brackets as they were written. Importing it imports rich.
"""

from collections.abc import Iterable

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich.console import Console, ConsoleOptions, RenderResult
from rich.markdown import Heading, Markdown
from rich.text import Text


class LeftHeading(Heading):
    """Bold, at the left margin, without a box."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = self.text if isinstance(self.text, Text) else Text(str(self.text))
        text.justify = "left"
        text.stylize("bold")
        yield text


class PlainMarkdown(Markdown):
    """One block. Links are written out: a person sees where they lead."""

    elements = {**Markdown.elements, "heading_open": LeftHeading}  # noqa: RUF012  # typed in the base

    def __init__(self, text: str) -> None:
        super().__init__(text, code_theme="ansi_dark", hyperlinks=False)
        parser = MarkdownIt("commonmark", {"html": False}).enable("strikethrough").enable("table")
        self.parsed = list(_with_breaks(parser.parse(text)))


def _with_breaks(tokens: Iterable[Token]) -> Iterable[Token]:
    """A line of output that a model repeats is a line, not a part of a paragraph."""
    for token in tokens:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
        yield token

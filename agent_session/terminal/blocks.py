"""A streamed answer, cut into pieces that never change again. Pure.

A Markdown block is handed out once it is complete: a paragraph at its blank line, a list item at the
next one, a fence at its end (a long one in parts). So what is printed is never rewritten.
"""

import re
from dataclasses import dataclass
from typing import Protocol

FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})\s*([^`\s]*)[^`]*$")
ITEM = re.compile(r"^ {0,1}([-*+]|\d{1,9}[.)])\s+\S")
HEADING = re.compile(r"^ {0,3}#{1,6}\s")
CODE_LINES = 30  #: a longer fence is shown in parts


@dataclass(frozen=True)
class Block:
    text: str
    code: bool = False
    language: str = ""
    indent: int = 0
    close: bool = False  #: stands directly below the block before: the next item, the next part of a fence


class Stream(Protocol):
    """What the answer of one step goes through on its way to the screen."""

    def feed(self, text: str) -> list[Block]: ...

    def finish(self) -> list[Block]: ...

    @property
    def tail(self) -> str:
        """What has come and was not handed out yet."""
        ...

    @property
    def tail_is_close(self) -> bool:
        """Whether it will stand directly below the block before."""
        ...


class Lines:
    """For terminals without a cursor: each line as it comes."""

    tail_is_close = True

    def __init__(self) -> None:
        self.tail = ""

    def feed(self, text: str) -> list[Block]:
        *whole, self.tail = (self.tail + text).split("\n")
        return [Block(line, close=True) for line in whole]

    def finish(self) -> list[Block]:
        rest, self.tail = self.tail, ""
        return [Block(rest, close=True)] if rest.strip() else []


class Markdown:
    """For terminals that show an answer's tail below what is printed."""

    def __init__(self) -> None:
        self._rest = ""
        self._lines: list[str] = []
        self._fence: re.Match[str] | None = None
        self._parts = 0
        self._item = False  # the open block is a list's item
        self._after_item = False  # the last block handed out was one

    @property
    def tail(self) -> str:
        return "\n".join([*self._lines, self._rest]).strip("\n")

    @property
    def tail_is_close(self) -> bool:
        return self._parts > 0 if self._fence else self._item and self._after_item

    def feed(self, text: str) -> list[Block]:
        *whole, self._rest = (self._rest + text).split("\n")
        return [block for line in whole for block in self._take(line.rstrip("\r"))]

    def finish(self) -> list[Block]:
        rest, self._rest = self._rest, ""
        blocks = self._take(rest) if rest else []
        if self._fence:
            blocks += self._code(last=True)
        return blocks + self._text()

    def _take(self, line: str) -> list[Block]:
        if self._fence:
            return self._take_code(line, self._fence)
        opens = FENCE.match(line)
        if opens:
            done = self._text()
            self._fence, self._parts = opens, 0
            return done
        if HEADING.match(line):
            done = self._text()
            self._lines.append(line)
            return [*done, *self._text()]
        if not line.strip():
            if not self._item:
                return self._text()
            self._lines.append("")
            return []
        done: list[Block] = []
        is_item = bool(ITEM.match(line))
        after_blank = bool(self._lines) and not self._lines[-1]
        if self._item and (is_item or (after_blank and not line.startswith((" ", "\t")))):
            done = self._text()
        if not self._lines:
            self._item = is_item
        self._lines.append(line)
        return done

    def _take_code(self, line: str, fence: "re.Match[str]") -> list[Block]:
        closing = line.strip()
        if closing.startswith(fence[2]) and not closing.strip(fence[2][0]):
            return self._code(last=True)
        indent = len(fence[1])
        self._lines.append(line[indent:] if not line[:indent].strip() else line)
        return self._code(last=False) if len(self._lines) >= CODE_LINES else []

    def _code(self, *, last: bool) -> list[Block]:
        fence, lines = self._fence, self._lines
        assert fence is not None
        self._lines = []
        part, self._parts = self._parts, self._parts + 1
        if last:
            self._fence, self._after_item = None, False
        if not lines:
            return []
        return [Block("\n".join(lines), code=True, language=fence[3], indent=len(fence[1]), close=part > 0)]

    def _text(self) -> list[Block]:
        text = "\n".join(self._lines).strip("\n")
        self._lines = []
        if not text:
            return []
        close = self._item and self._after_item
        self._after_item, self._item = self._item, False
        return [Block(text, close=close)]

"""Markdown, as models write it, to Slack's mrkdwn.

Pure. What is not markup is escaped, so that no answer can ping anybody or hide where a link leads: the only `<…>`
made here are links to http, https, mailto and tel.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

FENCE, TABLE, TEXT, BLANK = "fence", "table", "text", "blank"
DEPTH = 6  #: of markup within markup
MARKED_UP_CHARS = 20_000  #: of one line; a longer one is no prose, and is shown as it is
NOTHING = "\u200b"  #: zero width: lets markup stand inside a word, and breaks what would end a code block

_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<marks>`{3,}|~{3,})[ \t]*(?P<info>[^`]*)$")
_RULE = re.compile(r"^ {0,3}([-*_])([ \t]*\1){2,}[ \t]*$")
_HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(?P<words>.*)$")
_QUOTE = re.compile(r"^ {0,3}(?:>[ \t]?)+")
_BULLET = re.compile(r"^(?P<indent>[ \t]*)[-*+][ \t]+(?:\[(?P<box>[ xX])\][ \t]+)?(?P<words>\S.*)$")
_ADDRESS = re.compile(r"(?:https?://|mailto:|tel:)[^\s<>]+\Z", re.I)
_INLINE = re.compile(
    r"\\(?P<literal>[!-/:-@\[-`{-~])"
    r"|(?<!`)(?P<ticks>`{1,3})(?!`)(?P<code>.{1,2000}?)(?<!`)(?P=ticks)(?!`)"
    r"|!?\[(?P<label>(?:[^\[\]]|\[[^\[\]]{0,200}\]){0,500})\]\((?P<url>[^\s()]{0,2000}(?:\([^\s()]{0,200}\)[^\s()]{0,200}){0,8})"
    r"(?:\s{1,9}[\"'][^\"']{0,300}[\"'])?\)"
    r"|<(?P<auto>(?:https?://|mailto:)[^\s<>|]+)>"
    r"|(?P<bare>https?://[^\s<>\[\]`*|]+)"
    r"|\*\*\*(?P<both>\S(?:.{0,2000}?\S)?)\*\*\*"
    r"|\*\*(?P<bold>\S(?:.{0,2000}?\S)?)\*\*"
    r"|(?<!\w)__(?P<strong>\S(?:.{0,2000}?\S)?)__(?!\w|\.\w)"
    r"|~~(?P<strike>\S(?:.{0,2000}?\S)?)~~"
    r"|(?<![\w*])\*(?P<star>[^\s*](?:[^*]{0,2000}[^\s*])?)\*(?![\w*])"
    r"|(?<!\w)_(?P<italic>[^\s_](?:[^_]{0,2000}[^\s_])?)_(?!\w)"
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Lines that belong together."""

    kind: str
    lines: tuple[str, ...]  #: of a fence: what it holds
    info: str = ""  #: of a fence: its language

    @property
    def source(self) -> str:
        """The block as Markdown, a fence with its ends."""
        if self.kind != FENCE:
            return "\n".join(self.lines)
        marks = "`" * max(3, 1 + max((len(run) for line in self.lines for run in re.findall("`+", line)), default=0))
        return "\n".join([f"{marks}{self.info}", *self.lines, marks])

    @property
    def is_heading(self) -> bool:
        return self.kind == TEXT and _HEADING.match(self.lines[-1]) is not None


def escape(text: str) -> str:
    """Slack's three special characters, as entities."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def to_mrkdwn(markdown: str) -> str:
    """The same words for Slack's `text`."""
    return "\n".join(rendered(block) for block in blocks_of(markdown))


def rendered(block: Block) -> str:
    if block.kind == FENCE:
        return _fenced(block.lines)
    if block.kind == TABLE:
        return _fenced(_table(block.lines))
    return "\n".join(_line(line) for line in block.lines)


def blocks_of(markdown: str) -> list[Block]:
    """Paragraphs, fences, tables and the blank lines between them. A fence that is not closed ends with the text."""
    lines = markdown.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").split("\n")
    found: list[Block] = []
    at = 0
    while at < len(lines):
        taken = _fence_at(lines, at) or _table_at(lines, at) or _text_at(lines, at)
        block, at = taken
        if not (block.kind == BLANK and found and found[-1].kind == BLANK):
            found.append(block)
    return found


def _fence_at(lines: Sequence[str], at: int) -> tuple[Block, int] | None:
    opened = _FENCE.match(lines[at])
    if opened is None:
        return None
    marks, indent = opened["marks"], opened["indent"]
    end = at + 1
    while end < len(lines) and not _closes(lines[end], marks):
        end += 1
    held = tuple(line.removeprefix(indent) for line in lines[at + 1 : end])
    return Block(kind=FENCE, lines=held, info=opened["info"].strip()), end + 1


def _closes(line: str, marks: str) -> bool:
    bare = line.strip()
    return len(bare) >= len(marks) and set(bare) == {marks[0]}


def _table_at(lines: Sequence[str], at: int) -> tuple[Block, int] | None:
    if at + 1 >= len(lines) or "|" not in lines[at] or not _is_under_a_heading(lines[at + 1]):
        return None
    end = at + 2
    while end < len(lines) and "|" in lines[end] and _FENCE.match(lines[end]) is None:
        end += 1
    return Block(kind=TABLE, lines=tuple(lines[at:end])), end


def _is_under_a_heading(line: str) -> bool:
    """`|---|:-:|`, as it stands under the first row of a table."""
    return "|" in line and set(line) <= set("|:- \t") and all("-" in cell for cell in line.strip("| \t").split("|"))


def _text_at(lines: Sequence[str], at: int) -> tuple[Block, int]:
    if not lines[at].strip():
        return Block(kind=BLANK, lines=("",)), at + 1
    end = at + 1
    if not _HEADING.match(lines[at]):
        while end < len(lines) and lines[end].strip() and not _begins_another(lines, end):
            end += 1
    return Block(kind=TEXT, lines=tuple(lines[at:end])), end


def _begins_another(lines: Sequence[str], at: int) -> bool:
    return bool(_FENCE.match(lines[at]) or _HEADING.match(lines[at]) or _table_at(lines, at))


def _fenced(lines: Sequence[str]) -> str:
    inside = escape("\n".join(lines)).replace("```", f"``{NOTHING}`")
    return f"```\n{inside}\n```"


def _table(lines: Sequence[str]) -> list[str]:
    """Columns that stand under each other."""
    rows = [[plain(cell.strip()) for cell in _cells(line)] for line in (lines[0], *lines[2:])]
    columns = max(map(len, rows))
    rows = [row + [""] * (columns - len(row)) for row in rows]
    widths = [max(_width(row[column]) for row in rows) for column in range(columns)]
    shown = [
        "  ".join(cell + " " * (widths[at] - _width(cell)) for at, cell in enumerate(row)).rstrip() for row in rows
    ]
    return [shown[0], "  ".join("─" * width for width in widths), *shown[1:]]


def _cells(line: str) -> list[str]:
    bare = line.strip().removeprefix("|")
    bare = bare[:-1] if bare.endswith("|") and not bare.endswith("\\|") else bare
    return [cell.replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", bare)]


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _line(line: str) -> str:
    quoted = _QUOTE.match(line)
    if quoted:
        return "> " + _line(line[quoted.end() :])
    if _RULE.match(line):
        return "———"
    heading = _HEADING.match(line)
    if heading:
        words = plain(heading["words"].rstrip().rstrip("#").rstrip())
        return f"*{escape(words)}*" if words.strip() and "*" not in words else escape(words)
    bullet = _BULLET.match(line)
    if bullet:
        mark = {None: "•", " ": "☐"}.get(bullet["box"], "☑")
        return f"{bullet['indent']}{mark} {inline(bullet['words'])}"
    return inline(line)


def inline(text: str, depth: int = 0) -> str:
    """Markup within one line."""
    return _each(text, depth, _shown, lambda words: escape(html.unescape(words)))


def plain(text: str, depth: int = 0) -> str:
    """The words without their markup, not escaped."""
    return _each(text, depth, _bare, html.unescape)


def atoms(text: str) -> list[str]:
    """The line in pieces that must not be cut: links, code and marked-up words whole, the rest by words."""
    found: list[str] = []
    at = 0
    for match in _marked(text, 0):
        found += re.findall(r"\s*\S+|\s+", text[at : match.start()])
        found.append(match[0])
        at = match.end()
    return found + re.findall(r"\s*\S+|\s+", text[at:])


def _marked(text: str, depth: int) -> "Iterator[re.Match[str]]":
    return _INLINE.finditer(text) if len(text) <= MARKED_UP_CHARS and depth < DEPTH else iter(())


def _each(text: str, depth: int, marked: Callable[["re.Match[str]", int], str], words: Callable[[str], str]) -> str:
    pieces: list[str] = []
    at = 0
    for match in _marked(text, depth):
        pieces += [words(text[at : match.start()]), marked(match, depth + 1)]
        at = match.end()
    return "".join([*pieces, words(text[at:])])


def _bare(match: "re.Match[str]", depth: int) -> str:
    if match["label"] is not None:
        return plain(match["label"], depth) or match["url"]
    if match["code"] is not None:
        return match["code"].strip()
    for name in ("literal", "auto", "bare"):
        if match[name] is not None:
            return match[name]
    return plain(next(match[name] for name in _MARKS if match[name] is not None), depth)


def _shown(match: "re.Match[str]", depth: int) -> str:
    if match["literal"] is not None:
        return escape(match["literal"])
    if match["code"] is not None:
        code = match["code"].strip().replace("`", "ˋ")
        return _beside_words(match, f"`{escape(code)}`") if code else escape(match[0])
    if match["label"] is not None:
        return _link(match["url"], match["label"])
    if match["auto"] is not None:
        return _link(match["auto"])
    if match["bare"] is not None:
        url = _without_punctuation(match["bare"])
        return _link(url) + escape(match["bare"][len(url) :])
    name = next(name for name in _MARKS if match[name] is not None)
    left, right = _MARKS[name]
    return _beside_words(match, f"{left}{inline(match[name], depth)}{right}")


_MARKS = {
    "both": ("*_", "_*"),
    "bold": ("*", "*"),
    "strong": ("*", "*"),
    "strike": ("~", "~"),
    "star": ("_", "_"),
    "italic": ("_", "_"),
}


def _beside_words(match: "re.Match[str]", shown: str) -> str:
    """Slack takes a mark for markup only where a word begins or ends."""
    text, start, end = match.string, match.start(), match.end()
    before = NOTHING if start and (text[start - 1].isalnum() or text[start - 1] == "_") else ""
    after = NOTHING if end < len(text) and (text[end].isalnum() or text[end] == "_") else ""
    return f"{before}{shown}{after}"


def _without_punctuation(url: str) -> str:
    url = url.rstrip(".,;:!?'\"")
    while url.endswith(")") and url.count(")") > url.count("("):
        url = url[:-1].rstrip(".,;:!?'\"")
    return url


def _link(url: str, label: str = "") -> str:
    words = re.sub(r"\s+", " ", plain(label)).strip()
    url = html.unescape(url)
    if not _ADDRESS.match(url):
        return escape(f"{words} ({url})" if words and url and words != url else words or url)
    target = escape(url.replace("|", "%7C").replace("`", "%60"))
    if not words or words == url:
        return f"<{target}>"
    return f"<{target}|{escape(words).replace('|', '¦')}>"

"""A long answer in messages: between paragraphs where it can be, fences closed and opened again, never inside a
link, an entity or a character.

Pure. Pieces are Markdown, so that each can be shown as mrkdwn and as Markdown. Slack cuts a `text` at 40,000
characters, but refuses one over 4,000 in `chat.update`, which finishes a streamed message.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from channels.slack.mrkdwn import (
    BLANK,
    FENCE,
    MARKED_UP_CHARS,
    TABLE,
    TEXT,
    Block,
    atoms,
    blocks_of,
    rendered,
    to_mrkdwn,
)

PART_CHARS = 3_600  #: of one message, as mrkdwn, in UTF-16 units
FENCE_CHARS = 8  #: of the ends of a code block
MARGIN = 2  #: what may stand between two pieces of a line, to keep markup apart from words
LONGEST_ATOM = 12_000  #: a link that is longer is cut, unseen
JOINER = "\u200d"


def size(text: str) -> int:
    """Its length as Slack may count it, emoji as two."""
    return len(text) + sum(char > "\uffff" for char in text)


def split(markdown: str, limit: int = PART_CHARS) -> list[str]:
    """The answer in pieces whose mrkdwn is at most `limit` long; at least 100. One piece is the text itself."""
    if size(to_mrkdwn(markdown)) <= limit:
        return [markdown]
    parts: list[list[Sized]] = [[]]
    room = limit
    for block in (piece for whole in blocks_of(markdown) for piece in _pieces(whole, limit)):
        sized = Sized(block, size(rendered(block)) + 1)
        if parts[-1] and sized.chars - 1 > room:
            parts[-1], carried = _without_last_heading(parts[-1])
            left = limit - sum(one.chars for one in carried)
            if carried and sized.chars - 1 > left:
                parts.append(carried)
                carried, left = [], limit
            parts.append(carried)
            room = left
        parts[-1].append(sized)
        room -= sized.chars
    sources = ["\n".join(one.block.source for one in _stripped(part)) for part in parts]
    return [fit for source in sources if source.strip() for fit in _sure(source, limit)]


def _sure(source: str, limit: int) -> list[str]:
    """Where a cut made markup of what was none, and the piece too long: as code, which is what it is."""
    if size(to_mrkdwn(source)) <= limit:
        return [source]
    return [block.source for block in _pieces(Block(kind=FENCE, lines=tuple(source.split("\n"))), limit)]


@dataclass(frozen=True)
class Sized:
    """A block, and how much room it takes with the end of its last line."""

    block: Block
    chars: int


def _stripped(part: list[Sized]) -> list[Sized]:
    start, end = 0, len(part)
    while start < end and part[start].block.kind == BLANK:
        start += 1
    while end > start and part[end - 1].block.kind == BLANK:
        end -= 1
    return part[start:end]


def _without_last_heading(part: list[Sized]) -> tuple[list[Sized], list[Sized]]:
    """A heading goes with what it stands over."""
    kept = _stripped(part)
    at = len(kept)
    while at > 0 and (kept[at - 1].block.is_heading or kept[at - 1].block.kind == BLANK):
        at -= 1
    return (kept[:at], kept[at:]) if at else (kept, [])


def _pieces(block: Block, limit: int) -> list[Block]:
    if size(rendered(block)) <= limit:
        return [block]
    if block.kind == TABLE:
        return _pieces_of_table(block, limit)
    lines = [piece for line in block.lines for piece in _lines(block, line, limit)]
    ends = FENCE_CHARS if block.kind == FENCE else 0
    costs = [size(rendered(replace(block, lines=(line,)))) - ends + 1 for line in lines]
    return [replace(block, lines=tuple(some)) for some in _packed(lines, costs, limit - ends)]


def _pieces_of_table(block: Block, limit: int) -> list[Block]:
    """Rows under their heading; a row that is too wide becomes code, cut where it must be."""
    head, rows = block.lines[:2], block.lines[2:]
    costs = [size(line) + 1 for line in rendered(block).split("\n")[1:-1]]  # in a part, columns are no wider
    room = limit - FENCE_CHARS - sum(costs[:2])
    if not rows or max(costs[2:]) > room:
        return _pieces(Block(kind=FENCE, lines=block.lines), limit)
    return [replace(block, lines=(*head, *some)) for some in _packed(rows, costs[2:], room)]


def _packed(items: Sequence[str], costs: Sequence[int], limit: int) -> list[list[str]]:
    """In order, as many together as fit."""
    found: list[list[str]] = [[]]
    room = limit
    for item, cost in zip(items, costs, strict=True):
        if found[-1] and cost > room:
            found.append([])
            room = limit
        found[-1].append(item)
        room -= cost
    return found


def _lines(block: Block, line: str, limit: int) -> list[str]:
    """One line, in pieces that fit: after a sentence, else between words, else between characters."""
    limit -= 1  # for the end of the line
    if len(line) <= MARKED_UP_CHARS and size(rendered(replace(block, lines=(line,)))) <= limit:
        return [line]
    if block.kind != TEXT:
        return _cut(block, line, limit)
    pieces = [piece for atom in atoms(line) for piece in _cut(block, atom, limit - 2 * MARGIN)]
    costs = [size(rendered(replace(block, lines=(piece,)))) + MARGIN for piece in pieces]
    quote = "> " if line.lstrip().startswith(">") else ""
    first, *more = _sentences(pieces, costs, limit - MARGIN)
    joined = [first, *(quote + one.strip() for one in more if one.strip())]
    return [fit for one in joined for fit in _cut(block, one, limit)]


def _sentences(pieces: Sequence[str], costs: Sequence[int], limit: int) -> list[str]:
    """As `_packed`, ending after a sentence where one ends in the second half."""
    found: list[str] = []
    current: list[int] = []
    room = limit
    for at, cost in enumerate(costs):
        while current and cost > room:
            ends = (n + 1 for n in range(len(current) - 1, len(current) // 2, -1) if _ends(pieces[current[n]]))
            end = next(ends, len(current))
            found.append("".join(pieces[n] for n in current[:end]))
            current = current[end:]
            room = limit - sum(costs[n] for n in current)
        current.append(at)
        room -= cost
    return [*found, "".join(pieces[n] for n in current)]


def _ends(piece: str) -> bool:
    return piece.rstrip().endswith((".", "!", "?", ":", ";", "…", "。"))


def _cut(room: Block, atom: str, limit: int) -> list[str]:
    """What fits nowhere, between characters."""
    found: list[str] = []
    while len(atom) > LONGEST_ATOM or size(rendered(replace(room, lines=(atom,)))) > limit:
        fits, over = 1, min(len(atom), limit + 1)
        while over - fits > 1:
            middle = (fits + over) // 2
            if size(rendered(replace(room, lines=(atom[:middle],)))) <= limit:
                fits = middle
            else:
                over = middle
        at = _whole_character(atom, fits)
        found.append(atom[:at])
        atom = atom[at:]
    return [*found, atom]


def _whole_character(text: str, at: int) -> int:
    """The last place at or before `at` that is not inside what is shown as one character."""
    for back in range(at, max(at - 32, 0), -1):
        if back < len(text) and not _goes_on(text[back]) and text[back - 1] != JOINER:
            return back
    return at


def _goes_on(char: str) -> bool:
    return char == JOINER or unicodedata.combining(char) > 0 or unicodedata.category(char) in ("Mn", "Me", "Sk")

"""Reading a transcript without a lock: up to its last whole line.

For prompts from the end (the cost depends on the window, not on the file), for people from the start.
"""

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from agent_session.paths import open_regular
from agent_session.transcript.index import BLOCK_BYTES, lines_backwards
from agent_session.transcript.lines import ASSISTANT, COMPACTION, ENDED, EVENT, GAP, USER, Line, calls_of, decode
from agent_session.transcript.log import FILE
from agent_session.transcript.volume import Volume

CHARS_PER_TOKEN = 4  #: a rough, widely used estimate; the provider's own count goes into usage


@dataclass(frozen=True)
class BadLine:
    """A line in mid-file that is no JSON object; readers skip it and name it."""

    number: int
    offset: int


@contextmanager
def opened(volume: Volume, key: str) -> Generator[int]:
    """The file's descriptor. Errors: FileNotFoundError (no such transcript), VolumeUnavailable."""
    with volume.session_folder(key) as handle:
        descriptor = open_regular(handle, FILE, os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def read_all(volume: Volume, key: str, offset: int = 0) -> Iterator[tuple[int, bytes, Line | BadLine]]:
    """Lines from `offset` on as (where the next one begins, raw, line). A torn last line is left for
    the next read."""
    with opened(volume, key) as descriptor:
        number, rest, position = 0, b"", offset
        while data := os.pread(descriptor, BLOCK_BYTES, position + len(rest)):
            rest += data
            while (newline := rest.find(b"\n")) >= 0:
                raw, rest = rest[: newline + 1], rest[newline + 1 :]
                number += 1
                position += len(raw)
                yield position, raw, decode(raw) or BadLine(number, position - len(raw))


def progress(volume: Volume, key: str, turn: str) -> tuple[int, bool]:
    """The number of the last line, 0 when there is no transcript yet, and whether the turn, if it stands
    at the end, has noted a gap. Errors: VolumeUnavailable."""
    seq = 0
    for line in backwards(volume, key):
        seq = seq or int(line["seq"])
        if line.get("turn") != turn:
            break
        if line.get("event") == GAP:
            return seq, True
    return seq, False


def backwards(volume: Volume, key: str) -> Iterator[Line]:
    """Lines from the last to the first; nothing when there is no transcript."""
    try:
        with opened(volume, key) as descriptor:
            for _, raw in lines_backwards(descriptor, os.fstat(descriptor).st_size):
                line = decode(raw)
                if line is not None:
                    yield line
    except FileNotFoundError:
        return


def window(volume: Volume, key: str, budget_tokens: int, turn: str) -> list[Line]:
    """The lines for a prompt, oldest first: back to the last compaction or the token budget, beginning
    at a person's words, so never between a tool call and its result. The words that opened the running
    `turn` are always there."""
    kept: list[Line] = []
    spent = 0
    for line in backwards(volume, key):
        own = line.get("turn") == turn and line.get("role") == USER
        spent += tokens_of(line)
        if spent > budget_tokens and not own:
            if line.get("turn") != turn:
                break
            continue  # an older step of a long turn is left out; the words that opened it are not
        kept.append(line)
        if line.get("role") == EVENT and line.get("event") == COMPACTION:
            break
    kept.reverse()
    while kept and kept[0].get("role") not in (USER, EVENT):
        kept.pop(0)
    return _without_orphans(kept)


def _without_orphans(lines: list[Line]) -> list[Line]:
    """Results whose call was cut off are left out: providers refuse them."""
    asked = {call["id"] for line in lines if line.get("role") == ASSISTANT for call in calls_of(line)}
    return [line for line in lines if "call" not in line or line.get("role") == EVENT or line["call"] in asked]


def tokens_of(line: Line) -> int:
    """A rough count for the window's budget."""
    chars = len(str(line.get("content", ""))) + sum(len(str(call.get("args", ""))) for call in calls_of(line))
    return chars // CHARS_PER_TOKEN + 8


def reply_of(volume: Volume, key: str, turn: str) -> tuple[str, Line] | None:
    """The text that a turn ended with, and its `ended` line; None while it has not ended."""
    ended: Line | None = None
    for line in backwards(volume, key):
        if line.get("turn") != turn:
            if ended is not None:
                break
            continue
        if line.get("role") == EVENT and line.get("event") == ENDED:
            ended = line
        elif line.get("role") == ASSISTANT and ended is not None:
            return (str(line.get("content", "")) if ended.get("outcome") == "answered" else ""), ended
    return ("", ended) if ended is not None else None


def turn_of(volume: Volume, key: str, scoped: str) -> str | None:
    """The turn that took a message in, searched through the whole file from its end."""
    for line in backwards(volume, key):
        if line.get("role") == USER and line.get("id") == scoped:
            return str(line.get("turn"))
    return None

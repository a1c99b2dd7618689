"""What stood last in a transcript, for a chat that is opened again. Reads lines from the last one back, wherever they
come from; writes nothing."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from agent_session.domain.cards import visible
from agent_session.transcript.lines import APPROVAL, ASSISTANT, ENDED, EVENT, TOOL, USER, Line, calls_of

Lines = AsyncGenerator[Line]  #: the last one first

LINES_READ = 2_000  #: how far back is looked for a person's words
WORDS_LINES, ANSWER_LINES, OUTPUT_LINES = 4, 24, 40


@dataclass
class Exchange:
    """The last person's words and what became of them."""

    turn: str = ""
    words: list[Line] = field(default_factory=list[Line])
    answer: str = ""
    outcome: str = ""  #: empty while the turn runs


async def last_exchange(lines: Lines) -> Exchange | None:
    """The newest turn that a person began. Errors: those of reading."""
    found = Exchange()
    async with aclosing(_first(lines)) as lines:
        async for line in lines:
            if found.words and line.get("turn") != found.turn:
                break
            if line.get("turn") != found.turn:
                found = Exchange(turn=str(line.get("turn")))
            if line.get("role") == EVENT and line.get("event") == ENDED:
                found.outcome = str(line.get("outcome"))
                found.answer = str(line.get("content") or "")
            elif line.get("role") == ASSISTANT and found.outcome == "answered" and not found.answer:
                found.answer = str(line.get("content") or "")
            elif line.get("role") == USER and line.get("kind", "person") == "person":
                found.words.insert(0, line)
    return found if found.words else None


async def _first(lines: Lines) -> Lines:
    """As far back as anybody looks."""
    count = 0
    async with aclosing(lines):
        async for line in lines:
            yield line
            count += 1
            if count >= LINES_READ:
                return


def cut(text: str, lines: int, more: str) -> str:
    """The first lines, and how many were left out."""
    kept = text.strip("\n").split("\n")
    return "\n".join(kept[:lines]) + (f"\n… {len(kept) - lines} more lines: {more}" if len(kept) > lines else "")


@dataclass(frozen=True)
class Called:
    tool: str
    args: str
    outcome: str
    content: str
    duration_s: float = 0.0


async def nth_last_call(lines: Lines, number: int) -> Called | None:
    """A finished tool call, 1 for the last. Errors: those of reading."""
    result: Line | None = None
    async with aclosing(lines):
        async for line in lines:
            if line.get("role") == TOOL and result is None:
                number -= 1
                result = line if number == 0 else None
            for call in calls_of(line) if result is not None else ():
                if result is not None and call["id"] == result.get("call"):
                    took = float(result.get("duration_s") or 0)
                    return Called(
                        str(call["name"]), str(call["args"]), str(result["outcome"]), str(result["content"]), took
                    )
    return None


async def who_decided(lines: Lines, call: str) -> str:
    """Who decided on a call and how, or nothing while that is not written."""
    async with aclosing(_first(lines)) as lines:
        async for line in lines:
            if line.get("event") == APPROVAL and line.get("call") == call:
                return visible(f"{line.get('decision')} by {line.get('principal')}")
    return ""


async def end_of(lines: Lines, turn: str) -> tuple[str, str, str] | None:
    """Outcome, text and error id of a turn; None while it has not ended."""
    ended: Line | None = None
    answer = ""
    async with aclosing(_first(lines)) as lines:
        async for line in lines:
            if line.get("turn") != turn:
                if ended is not None:
                    break
            elif line.get("role") == EVENT and line.get("event") == ENDED:
                ended = line
            elif line.get("role") == ASSISTANT and ended is not None:
                answer = str(line.get("content", "")) if ended.get("outcome") == "answered" else ""
                break
    if ended is None:
        return None
    return str(ended.get("outcome")), answer or str(ended.get("content") or ""), str(ended.get("error_id") or "")

"""What a turn writes into its transcript, each fact once (I4, I5).

The four moments of a step: it opens (the person's words), the model answers, a tool starts, a tool
ends; and a turn is closed from what the transcript says, not from anybody's memory. Replaceable as a
whole: see `agent_session/operations.py`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from agent_session.domain.limits import INLINE_RESULT_BYTES
from agent_session.paths import write_whole
from agent_session.transcript import lines as L
from agent_session.transcript.lines import Line
from agent_session.transcript.log import Proof, TranscriptLog, View
from agent_session.transcript.reader import backwards, progress
from agent_session.transcript.volume import Volume

T = TypeVar("T")
LOGS_KEPT = 2_000

INTERRUPTED_TEXT = "Interrupted before it finished: it may or may not have taken effect. Check before you do it again."
NOT_RUN_TEXT = "Not run: the turn ended first."


class TurnEnded(Exception):
    """The turn is closed in the transcript; a late attempt writes nothing. Never retried."""


class UnknownTurn(Exception):
    """A step or call of a turn that no signed message opened here. Never retried."""


@dataclass(frozen=True)
class Opened:
    """A step, opened. Exactly one of `answer` and `ended` is set when the step was recorded before."""

    n: int
    seq: int
    answer: Line | None = None
    ended: Line | None = None
    earlier: tuple[str, ...] = ()  #: `<scoped id> <outcome> <turn>` of messages that an older turn answered
    gap: tuple[int, int] | None = None  #: lines that were lost to a restore, noted in this turn
    grants: tuple[str, ...] = ()  #: of the principal whose words opened the turn
    principal: str = ""
    place: str = ""  #: where replies to those words go
    spent: dict[str, int] = field(default_factory=lambda: dict[str, int]())  #: by the turn's earlier steps


@dataclass(frozen=True)
class Speaker:
    """Whose words opened a turn, and where replies to them go."""

    principal: str = ""
    place: str = ""


@dataclass(frozen=True)
class Words:
    """What one message says, ready for its line."""

    scoped: str
    content: str
    fields: dict[str, Any] = field(default_factory=lambda: dict[str, Any]())


@dataclass(frozen=True)
class Recorded:
    """A line that stands in the transcript, written now or before."""

    line: Line
    seq: int  #: the transcript's last line
    written_before: bool = False


class JsonlRecorder:
    """The default: JSONL on the shared volume."""

    def __init__(self, volume: Volume, *, catch_up_s: float = 60.0) -> None:
        self.volume = volume
        self._catch_up_s = catch_up_s
        self._pool = ThreadPoolExecutor(max_workers=16, thread_name_prefix="transcript")
        self._logs: dict[str, TranscriptLog] = {}
        self._speakers: dict[str, Speaker] = {}  #: by turn, of turns that took a step here

    async def catch_up(self, key: str, turn: str, after_seq: int) -> int:
        """Wait until the transcript reaches `after_seq`, as it may lag on NFS. Returns its last line:
        less than `after_seq` means that an older copy was restored. A turn that has noted a gap waits no
        more. Errors: VolumeUnavailable."""
        loop, deadline, pause = asyncio.get_running_loop(), time.monotonic() + self._catch_up_s, 0.05
        while True:
            seq, gap_noted = await loop.run_in_executor(self._pool, progress, self.volume, key, turn, after_seq)
            if seq >= after_seq or gap_noted or time.monotonic() > deadline:
                return seq
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def open_step(
        self,
        key: str,
        turn: str,
        step: int,
        words: Sequence[Words],
        proof: Proof,
        gap: tuple[int, int] | None = None,
        notes: Sequence[Line] = (),
    ) -> Opened:
        """Write the person's words, behind `notes` (events) and whatever an earlier step left open, unless it
        stands there."""
        opened = await self._append(key, lambda view: _open_step(view, turn, step, words, proof, gap, notes), proof)
        if opened.principal:
            self._speakers[turn] = Speaker(opened.principal, opened.place)
            while len(self._speakers) > LOGS_KEPT:
                del self._speakers[next(iter(self._speakers))]
        return opened

    async def answer(
        self, key: str, turn: str, answer: Line, results: Sequence[Line], ended: Line | None, proof: Proof
    ) -> Recorded:
        """Write the model's answer of a step, the results of calls that are not run at all and, after
        the last step, the turn's end: one write, one sync."""

        def plan(view: View) -> Recorded:
            found = view.recorded(L.answer_key(turn, answer["step"]))
            if found is not None:
                _end_torn_off(view, turn, found, proof)
                return Recorded(found, view.index.seq, written_before=True)
            n = _fence(view, turn, proof)
            view.append(answer, n)
            for result in results:
                view.append(result, n)
            if ended is not None:
                view.append(ended, n)
            return Recorded(answer, view.index.seq)

        return await self._append(key, plan, proof)

    async def started(self, key: str, turn: str, call: str, attempt: int, proof: Proof) -> Recorded | None:
        """Record that a tool with side effects starts now; None means: go on. A result that stands there
        is returned; a start without one becomes an interrupted result (I4)."""

        def plan(view: View) -> Recorded | None:
            found = view.recorded(L.result_key(call))
            if found is not None:
                return Recorded(found, view.index.seq, written_before=True)
            n = _fence(view, turn, proof)
            if view.has(L.started_key(call)):
                line = L.result_line(turn, call, "interrupted", INTERRUPTED_TEXT)
                view.append(line, n)
                return Recorded(line, view.index.seq)
            view.append(L.event_line(turn, L.STARTED, call=call, attempt=attempt), n)
            return None

        return await self._append(key, plan, proof)

    async def result(self, key: str, turn: str, result: Line, proof: Proof) -> Recorded:
        """Write a tool's result; a large one goes to `artifacts/<call id>` and the line holds head, tail,
        size and path."""
        line = await asyncio.get_running_loop().run_in_executor(self._pool, self._inline, key, result)

        def plan(view: View) -> Recorded:
            found = view.recorded(L.result_key(line["call"]))
            if found is not None:
                return Recorded(found, view.index.seq, written_before=True)
            view.append(line, _fence(view, turn, proof))
            return Recorded(line, view.index.seq)

        return await self._append(key, plan, proof)

    async def event(self, key: str, turn: str, line: Line, proof: Proof) -> int:
        """Write an event of a turn that is still open, once."""

        def plan(view: View) -> int:
            if not view.has(L.key_of(line)):
                view.append(line, _fence(view, turn, proof))
            return view.index.seq

        return await self._append(key, plan, proof)

    async def close(
        self, key: str, turn: str, words: Sequence[Words], ended: Line, proof: Proof, notes: Sequence[Line] = ()
    ) -> Recorded:
        """End a turn that did not end by itself: every call gets its one result, then the end. What the
        transcript already says of its end wins."""

        def plan(view: View) -> Recorded:
            found = view.recorded(L.ended_key(turn))
            if found is not None:
                return Recorded(found, view.index.seq, written_before=True)
            n = _fence(view, turn, proof)
            _write_notes(view, notes, n)
            _write_words(view, turn, words, n)
            _settle_calls(view, turn, ended["outcome"], n)
            view.append(ended, n)
            return Recorded(ended, view.index.seq)

        return await self._append(key, plan, proof)

    async def was_started(self, key: str, turn: str, call: str) -> bool:
        """Whether a tool with side effects was about to act for this call."""

        def find() -> bool:
            for line in backwards(self.volume, key):
                if line.get("turn") != turn:
                    break
                if line.get("event") == L.STARTED and line.get("call") == call:
                    return True
            return False

        return await asyncio.get_running_loop().run_in_executor(self._pool, find)

    async def speaker(self, key: str, turn: str) -> Speaker:
        """Whose words opened the turn; nobody's where none stand there."""

        def find() -> Speaker:
            found = Speaker()
            for line in backwards(self.volume, key):
                if line.get("turn") != turn:
                    break
                if line.get("role") == L.USER:
                    found = Speaker(str(line.get("principal", "")), str(line.get("reply_address", "")))
            return found

        known = self._speakers.get(turn)
        return known or await asyncio.get_running_loop().run_in_executor(self._pool, find)

    async def find_call(self, key: str, turn: str, step: int, index: int) -> tuple[Line, Line | None]:
        """A recorded tool call, and its result if there is one. Errors: UnknownTurn."""

        def find() -> tuple[Line, Line | None]:
            results: dict[str, Line] = {}
            for line in backwards(self.volume, key):
                if line.get("turn") != turn:
                    break
                if line.get("role") == L.TOOL:
                    results[str(line.get("call"))] = line
                elif line.get("role") == L.ASSISTANT and line.get("step") == step:
                    calls = L.calls_of(line)
                    if index < len(calls):
                        return calls[index], results.get(calls[index]["id"])
            raise UnknownTurn(f"the transcript holds no call {index} of step {step} of {turn}")

        return await asyncio.get_running_loop().run_in_executor(self._pool, find)

    async def _append(self, key: str, plan: Callable[[View], T], proof: Proof) -> T:
        log = self._logs.pop(key, None) or TranscriptLog(self.volume, key, self._pool)
        self._logs[key] = log
        while len(self._logs) > LOGS_KEPT:
            del self._logs[next(iter(self._logs))]
        return cast(T, await log.append(plan, proof))

    def _inline(self, key: str, result: Line) -> Line:
        data = str(result["content"]).encode("utf-8", "replace")
        if len(data) <= INLINE_RESULT_BYTES:
            return result
        with self.volume.session_folder(key, "artifacts", create=True) as handle:
            write_whole(handle, result["call"], data)
        half = INLINE_RESULT_BYTES // 2
        head, tail = data[:half].decode("utf-8", "ignore"), data[-half:].decode("utf-8", "ignore")
        path = f"artifacts/{result['call']}"
        cut = f"\n… {len(data) - 2 * half} bytes left out; all {len(data)} are in {path} …\n"
        return {**result, "content": head + cut + tail, "artifact": path, "size": len(data)}


def _open_step(
    view: View,
    turn: str,
    step: int,
    words: Sequence[Words],
    proof: Proof,
    gap: tuple[int, int] | None,
    notes: Sequence[Line],
) -> Opened:
    ended = view.recorded(L.ended_key(turn))
    answer = view.recorded(L.answer_key(turn, step))
    if ended is not None or answer is not None:
        line = answer or ended
        assert line is not None
        if ended is None and answer is not None:
            ended = _end_torn_off(view, turn, answer, proof)
        return Opened(n=int(line.get("n", 0)), seq=view.index.seq, answer=answer, ended=ended)
    earlier = _answered_before(view, turn, words)
    fresh = [one for one in words if one.scoped not in earlier]
    if words and not fresh and step == 1:
        return Opened(n=view.index.n, seq=view.index.seq, earlier=tuple(earlier.values()))
    if not fresh and view.turn(turn).words is None:
        raise UnknownTurn(f"nobody's words opened {turn} in this transcript")
    n = _fence(view, turn, proof)
    if gap is not None and view.turn(turn).gap is None:
        view.append(L.event_line(turn, L.GAP, **{"from": gap[0], "to": gap[1]}), n)
    _settle_calls(view, turn, "failed", n)
    _write_notes(view, notes, n)
    _write_words(view, turn, fresh, n)
    so_far = view.turn(turn)
    first = so_far.words or {}
    return Opened(
        n=n,
        seq=view.index.seq,
        earlier=tuple(earlier.values()),
        gap=so_far.gap,
        grants=tuple(first.get("grants") or ()),
        principal=str(first.get("principal", "")),
        place=str(first.get("reply_address", "")),
        spent=dict(so_far.usage),
    )


def add_usage(*usages: Mapping[str, int]) -> dict[str, int]:
    """Tokens and cost of several answers together."""
    total: dict[str, int] = {}
    for usage in usages:
        for name, value in usage.items():
            total[name] = total.get(name, 0) + int(value)
    return total


def _fence(view: View, turn: str, proof: Proof) -> int:
    """The turn's number, once it is sure that the writer may write. Errors: TurnEnded, StaleAttempt.

    Who passes the proof is current, so another turn that is still open is an older one (its run was
    lost with Temporal's database): it is closed first.
    """
    if view.has(L.ended_key(turn)):
        raise TurnEnded(f"{turn} has ended")
    other = view.open_turn
    if other and other != turn:
        proof.confirm()
        n = _number_of(view, other)
        _settle_calls(view, other, "interrupted", n)
        view.append(L.event_line(other, L.ENDED, outcome="interrupted"), n)
    return _number_of(view, turn)


def _end_torn_off(view: View, turn: str, answer: Line, proof: Proof) -> Line | None:
    """An answer without calls ends its turn, in one write with it. Where a crash tore the second line off, it
    is written now: else the next turn would close this one as interrupted. Returns the end, if it has one."""
    ended = view.recorded(L.ended_key(turn))
    if ended is None and not L.calls_of(answer):
        view.append(L.event_line(turn, L.ENDED, outcome="answered"), _fence(view, turn, proof))
        ended = view.recorded(L.ended_key(turn))
    return ended


def _number_of(view: View, turn: str) -> int:
    return view.turn(turn).n or view.index.n + 1


def _answered_before(view: View, turn: str, words: Sequence[Words]) -> dict[str, str]:
    """Messages that an older, ended turn took in: after the loss of Temporal's database a channel's
    retry comes as new."""
    found: dict[str, str] = {}
    for one in words:
        older = view.index.said.get(one.scoped)
        if older and older != turn:
            ended = view.recorded(L.ended_key(older))
            if ended is not None:
                found[one.scoped] = f"{one.scoped} {ended.get('outcome', 'answered')} {older}"
    return found


def _write_notes(view: View, notes: Sequence[Line], n: int) -> None:
    for note in notes:
        if not view.has(L.key_of(note)):
            view.append(note, n)


def _write_words(view: View, turn: str, words: Sequence[Words], n: int) -> None:
    for one in words:
        if not view.has(L.user_key(turn, one.scoped)):
            view.append(L.user_line(turn, one.scoped, one.content, **one.fields), n)


def _settle_calls(view: View, turn: str, outcome: str, n: int) -> None:
    """Every call of the turn that has no result gets its one result now (I5)."""
    for name, call in list(view.turn(turn).asked.items()):
        surely_not = _surely_not_run(view, call, name)
        word = "cancelled" if outcome == "cancelled" and surely_not else "interrupted"
        view.append(L.result_line(turn, name, word, NOT_RUN_TEXT if surely_not else INTERRUPTED_TEXT), n)


def _surely_not_run(view: View, call: Line, name: str) -> bool:
    """Only a start that must have been written first, or an approval that was never given, shows that a
    call did nothing: other tools act without a record before."""
    if call.get("effects") == "side_effects":
        return not view.has(L.started_key(name))
    return call.get("verdict") == "ask" and not view.has(f"x/{L.APPROVAL}/{name.rsplit('-', 2)[0]}/{name}")

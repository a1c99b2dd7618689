"""How a turn is ended from what its transcript says: one result for each call, told as it truly was (I4, I5)."""

from typing import Any

import pytest

from agent_session.transcript import lines as L
from agent_session.transcript.lines import Line
from agent_session.transcript.reader import read_all
from agent_session.transcript.recorder import INTERRUPTED_TEXT, NOT_RUN_TEXT, JsonlRecorder, TurnEnded, Words
from agent_session.transcript.volume import Volume
from tests.support import Proven

KEY, TURN, OTHER = "main", "t-0123456789abcdef", "t-fedcba9876543210"
PROVEN = Proven()


def call(index: int, **more: Any) -> Line:
    return {"id": f"{TURN}-1-{index}", "name": "tool", "args": "{}", "verdict": "run", **more}


def answer(*calls: Line, turn: str = TURN, step: int = 1, text: str = "") -> Line:
    return {"turn": turn, "role": L.ASSISTANT, "step": step, "content": text, "tool_calls": list(calls)}


def ended(outcome: str, turn: str = TURN) -> Line:
    return L.event_line(turn, L.ENDED, outcome=outcome)


def lines(volume: Volume) -> list[Line]:
    return [line for _, _, line in read_all(volume, KEY) if isinstance(line, dict)]


@pytest.fixture
def recorder(volume: Volume) -> JsonlRecorder:
    return JsonlRecorder(volume)


async def opened(recorder: JsonlRecorder, *calls: Line) -> None:
    await recorder.open_step(KEY, TURN, 1, [Words("0" * 16, "go")], PROVEN)
    await recorder.answer(KEY, TURN, answer(*calls), [], None, PROVEN)


@pytest.mark.parametrize(("outcome", "surely_not"), [("cancelled", "cancelled"), ("interrupted", "interrupted"),
                                                     ("failed", "interrupted")])  # fmt: skip
async def test_a_call_without_a_result_gets_one_that_says_whether_it_may_have_run(
    recorder: JsonlRecorder, volume: Volume, outcome: str, surely_not: str
) -> None:
    calls = [
        call(0, effects="side_effects"), call(1, effects="side_effects"), call(2, effects="idempotent"),
        call(3, effects="idempotent", verdict="ask"), call(4, effects="idempotent", verdict="ask"),
        call(5, effects="none"), call(6, effects="none"),
    ]  # fmt: skip
    await opened(recorder, *calls)
    await recorder.started(KEY, TURN, calls[1]["id"], 1, PROVEN)
    await recorder.event(KEY, TURN, L.event_line(TURN, L.APPROVAL, call=calls[4]["id"], decision="allow"), PROVEN)
    await recorder.result(KEY, TURN, L.result_line(TURN, calls[6]["id"], "ok", "out"), PROVEN)
    await recorder.close(KEY, TURN, [], ended(outcome), PROVEN)
    told = {line["call"]: (line["outcome"], line["content"]) for line in lines(volume) if line["role"] == L.TOOL}
    not_run, perhaps = (surely_not, NOT_RUN_TEXT), ("interrupted", INTERRUPTED_TEXT)
    assert list(told.values()) == [("ok", "out"), not_run, perhaps, perhaps, not_run, perhaps, perhaps]
    assert set(told) == {one["id"] for one in calls}


async def test_an_event_is_written_once_and_not_into_a_turn_that_has_ended(
    recorder: JsonlRecorder, volume: Volume
) -> None:
    approval = L.event_line(TURN, L.APPROVAL, call=f"{TURN}-1-0", decision="allow")
    await opened(recorder, call(0))
    seq = await recorder.event(KEY, TURN, approval, PROVEN)
    assert await recorder.event(KEY, TURN, approval, PROVEN) == seq == len(lines(volume))
    await recorder.close(KEY, TURN, [], ended("cancelled"), PROVEN)
    with pytest.raises(TurnEnded):
        await recorder.event(KEY, TURN, {**approval, "call": f"{TURN}-1-1"}, PROVEN)


async def test_an_answer_whose_turns_end_was_torn_off_ends_its_turn(recorder: JsonlRecorder, volume: Volume) -> None:
    await recorder.open_step(KEY, TURN, 1, [Words("0" * 16, "go")], PROVEN)
    await recorder.answer(KEY, TURN, answer(text="done"), [], ended("answered"), PROVEN)
    path = volume.path_of(KEY) / "history.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])
    again = await JsonlRecorder(volume).open_step(KEY, TURN, 1, [Words("0" * 16, "go")], PROVEN)
    assert again.answer is not None
    assert (again.answer["content"], (again.ended or {})["outcome"]) == ("done", "answered")
    assert [line.get("event") for line in lines(volume)] == [None, None, L.ENDED]


async def test_an_answer_that_asks_for_tools_ends_nothing(recorder: JsonlRecorder, volume: Volume) -> None:
    await opened(recorder, call(0))
    again = await recorder.open_step(KEY, TURN, 1, [], PROVEN)
    assert again.answer is not None
    assert again.ended is None
    recorded = await recorder.answer(KEY, TURN, answer(call(0)), [], None, PROVEN)
    assert recorded.written_before
    assert len(lines(volume)) == 2


async def test_the_end_that_stands_wins(recorder: JsonlRecorder, volume: Volume) -> None:
    await recorder.open_step(KEY, TURN, 1, [Words("0" * 16, "go")], PROVEN)
    await recorder.answer(KEY, TURN, answer(text="done"), [], ended("answered"), PROVEN)
    closed = await recorder.close(KEY, TURN, [], ended("cancelled"), PROVEN)
    assert (closed.line["outcome"], closed.written_before, closed.seq) == ("answered", True, 3)
    again = await recorder.answer(KEY, TURN, answer(text="other"), [], ended("answered"), PROVEN)
    assert (again.line["content"], again.written_before) == ("done", True)
    assert len(lines(volume)) == 3


async def test_another_turn_that_is_open_is_an_older_one_and_closed_first(
    recorder: JsonlRecorder, volume: Volume
) -> None:
    await opened(recorder, call(0))
    await recorder.open_step(KEY, OTHER, 1, [Words("1" * 16, "next")], PROVEN)
    told = [(line["turn"], line["n"], line.get("event") or line["role"], line.get("outcome")) for line in lines(volume)]
    assert told == [
        (TURN, 1, "user", None), (TURN, 1, "assistant", None), (TURN, 1, "tool", "interrupted"),
        (TURN, 1, "ended", "interrupted"), (OTHER, 2, "user", None),
    ]  # fmt: skip

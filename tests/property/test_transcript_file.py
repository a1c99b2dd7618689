"""I5: the transcript is valid whatever happens to the file: cut at every byte, two writers, replays."""

import asyncio
import contextlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_session.transcript import lines as L
from agent_session.transcript.reader import BadLine, read_all, window
from agent_session.transcript.recorder import JsonlRecorder, TurnEnded, Words
from agent_session.transcript.volume import Volume
from tests.property.volumes import new_volume
from tests.support import Proven, check_transcript

PROVEN = Proven()


def answer(turn: str, text: str = "yes", calls: int = 0) -> L.Line:
    asked = [{"id": f"{turn}-1-{n}", "name": "shell", "args": "{}"} for n in range(calls)]
    return {"turn": turn, "role": "assistant", "step": 1, "content": text, "tool_calls": asked}


async def write_turn(recorder: JsonlRecorder, number: int, calls: int = 0) -> None:
    turn = f"t-{number:016x}"
    await recorder.open_step("k", turn, 1, [Words(f"{number:016x}", f"say {number}")], PROVEN)
    ended = None if calls else L.event_line(turn, L.ENDED, outcome="answered")
    await recorder.answer("k", turn, answer(turn, calls=calls), [], ended, PROVEN)
    for call in range(calls):
        name = f"{turn}-1-{call}"
        await recorder.started("k", turn, name, 1, PROVEN)
        await recorder.result("k", turn, L.result_line(turn, name, "ok", "out"), PROVEN)
    if calls:
        await recorder.close("k", turn, [], L.event_line(turn, L.ENDED, outcome="answered"), PROVEN)


def lines(volume: Volume) -> list[L.Line]:
    return [line for _, _, line in read_all(volume, "k") if not isinstance(line, BadLine)]


def test_a_file_cut_at_every_byte_is_repaired_and_goes_on() -> None:
    volume = new_volume()
    asyncio.run(write_turn(JsonlRecorder(volume), 1, calls=2))
    path = volume.path_of("k") / "history.jsonl"
    whole = path.read_bytes()

    async def go_on() -> None:
        for cut in range(len(whole) + 1):
            path.write_bytes(whole[:cut])
            await write_turn(JsonlRecorder(volume), 2)
            found = lines(volume)
            check_transcript(found)
            assert found[-1]["outcome"] == "answered"
            assert found[-1]["turn"] == f"t-{2:016x}"

    asyncio.run(go_on())


@settings(max_examples=25, deadline=None)
@given(plan=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 6), st.integers(0, 2)), min_size=1, max_size=12))
def test_two_writers_and_replayed_turns_write_each_fact_once(plan: list[tuple[int, int, int]]) -> None:
    """Each entry: which of two recorders, which turn, how many calls. A turn may come again and again."""
    volume = new_volume()

    async def write() -> None:
        recorders = JsonlRecorder(volume), JsonlRecorder(volume)
        for which, number, calls in plan:
            with contextlib.suppress(TurnEnded):  # closed by a turn that came between
                await write_turn(recorders[which], number, calls)

    asyncio.run(write())
    found = lines(volume)
    check_transcript(found)
    assert len([line for line in found if line["role"] == "user"]) == len({number for _, number, _ in plan})


def test_two_writers_at_once_never_tear_or_repeat_a_line() -> None:
    volume = new_volume()

    async def many(recorder: JsonlRecorder, who: int) -> None:
        async def one(number: int) -> None:
            turn = "t-shared"
            line = L.event_line(turn, L.NOTE, call=f"{who}-{number}", text="x" * 500)
            await recorder.event("k", turn, line, PROVEN)

        await asyncio.gather(*(one(number) for number in range(150)))

    def run(who: int) -> None:
        asyncio.run(many(JsonlRecorder(volume), who))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, (1, 2)))
    found = lines(volume)
    assert [line["seq"] for line in found] == list(range(1, 301))
    assert len({line["call"] for line in found}) == 300


def test_a_damaged_line_in_mid_file_is_skipped_and_named() -> None:
    volume = new_volume()
    asyncio.run(write_turn(JsonlRecorder(volume), 1))
    path = volume.path_of("k") / "history.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + b"{damaged\x00\n" + b"".join(rest))
    asyncio.run(write_turn(JsonlRecorder(volume), 2))
    bad = [line for _, _, line in read_all(volume, "k") if isinstance(line, BadLine)]
    assert [line.number for line in bad] == [2]
    check_transcript(lines(volume))


@settings(max_examples=40, deadline=None)
@given(turns=st.lists(st.integers(0, 2), min_size=1, max_size=8), budget=st.integers(1_0, 400))
def test_a_window_never_separates_a_call_from_its_result(turns: list[int], budget: int) -> None:
    volume = new_volume()

    async def write() -> None:
        recorder = JsonlRecorder(volume)
        for number, calls in enumerate(turns):
            await write_turn(recorder, number, calls)
        turn = "t-now"
        await recorder.open_step("k", turn, 1, [Words("now", "the words of now")], PROVEN)

    asyncio.run(write())
    kept = window(volume, "k", budget, "t-now")
    assert any(line.get("content") == "the words of now" for line in kept)
    asked = {call["id"] for line in kept for call in L.calls_of(line)}
    results = {line["call"] for line in kept if line["role"] == "tool"}
    assert asked == results
    assert kept[0]["role"] in ("user", "event")


def test_reading_a_window_costs_the_window_and_not_the_file() -> None:
    volume = new_volume()
    asyncio.run(write_turn(JsonlRecorder(volume), 1))
    path = volume.path_of("k") / "history.jsonl"
    line = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(line * 200_000)
    import time

    began = time.process_time()
    assert window(volume, "k", 2_000, "t-none")
    assert time.process_time() - began < 0.2


async def _write_step(recorder: JsonlRecorder, turn: str, step: int, output: str) -> None:
    call = f"{turn}-{step}-0"
    asked = {"id": call, "name": "read_file", "args": "{}", "verdict": "run", "effects": "none"}
    line = {
        "turn": turn,
        "role": "assistant",
        "step": step,
        "content": "",
        "tool_calls": [asked],
        "usage": {"input_tokens": 1},
    }
    await recorder.open_step("k", turn, step, [Words("m", "go")] if step == 1 else [], PROVEN)
    await recorder.answer("k", turn, line, [], None, PROVEN)
    await recorder.result("k", turn, L.result_line(turn, call, "ok", output), PROVEN)


async def test_a_step_reads_as_little_after_300_steps_as_after_three(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, read = JsonlRecorder(new_volume()), [0]
    pread = os.pread

    def counted(descriptor: int, size: int, offset: int) -> bytes:
        data = pread(descriptor, size, offset)
        read[0] += len(data)
        return data

    monkeypatch.setattr(os, "pread", counted)
    taken: dict[int, int] = {}
    for step in range(1, 301):
        read[0] = 0
        await _write_step(recorder, "t-1", step, "x" * 2_000)
        taken[step] = read[0]
    opened = await recorder.open_step("k", "t-1", 301, [], PROVEN)
    assert taken[300] <= taken[3] + 100
    assert opened.spent == {"input_tokens": 300}


async def test_calls_without_a_result_get_one_wherever_they_stand() -> None:
    """Also after another process has read the transcript from its end."""
    volume = new_volume()
    turn, names = "t-1", ["t-1-1-0", "t-1-1-1", "t-1-1-2"]
    first = JsonlRecorder(volume)
    await first.open_step("k", turn, 1, [Words("m", "go")], PROVEN)
    await first.answer("k", turn, answer(turn, calls=3), [], None, PROVEN)
    await first.result("k", turn, L.result_line(turn, names[1], "ok", "out"), PROVEN)
    opened = await JsonlRecorder(volume).open_step("k", turn, 2, [], PROVEN)
    outcomes = {line["call"]: line["outcome"] for line in lines(volume) if line["role"] == "tool"}
    assert outcomes == {names[0]: "interrupted", names[1]: "ok", names[2]: "interrupted"}
    assert opened.n == 1
    assert opened.answer is None

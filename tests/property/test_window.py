"""The window of a prompt: within the budget, and beginning at the same place for as long as it can."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_session.transcript import lines as L
from agent_session.transcript.reader import tokens_of, window
from tests.property.volumes import new_volume


class Writer:
    """A transcript that grows as a conversation does. Each line is written as it would be."""

    def __init__(self) -> None:
        self.volume = new_volume()
        with self.volume.session_folder("k", create=True):
            self.path = self.volume.path_of("k") / "history.jsonl"
        self.seq = self.n = 0

    @property
    def turn(self) -> str:
        return f"t-{self.n:016x}"

    def write(self, line: L.Line) -> None:
        self.seq += 1
        with self.path.open("ab") as file:
            file.write(L.encode(line, self.seq, self.n))

    def say(self, text: str, note: str = "") -> None:
        self.n += 1
        if note:
            self.write(L.event_line(self.turn, note))
        self.write(L.user_line(self.turn, f"m-{self.n}", text))

    def step(self, step: int, text: str, output: str = "") -> None:
        calls = [{"id": f"{self.turn}-{step}-0", "name": "shell", "args": "{}"}] if output else []
        self.write({"turn": self.turn, "role": "assistant", "step": step, "content": text, "tool_calls": calls})
        if output:
            self.write(L.result_line(self.turn, f"{self.turn}-{step}-0", "ok", output))

    def end(self) -> None:
        self.write(L.event_line(self.turn, L.ENDED, outcome="answered"))

    def window(self, budget: int) -> list[L.Line]:
        return window(self.volume, "k", budget, self.turn)


def spent(lines: list[L.Line]) -> int:
    return sum(tokens_of(line) for line in lines)


def moves(starts: list[int]) -> int:
    assert starts == sorted(starts), "the window never goes back"
    return sum(earlier != later for earlier, later in pairwise(starts))


def test_over_three_hundred_turns_the_window_moves_a_few_times_and_stays_within_its_budget() -> None:
    writer, budget = Writer(), 2_000  # about 33 turns of 60 tokens
    starts: list[int] = []
    sizes: list[int] = []
    for number in range(300):
        writer.say("x" * 80, note=L.MODEL if number % 5 == 4 else "")
        kept = writer.window(budget)
        starts.append(kept[0]["seq"])
        sizes.append(spent(kept))
        assert kept[0]["role"] == "user"
        writer.step(1, "y" * 60)
        writer.end()
    assert max(sizes) <= budget
    assert min(sizes[60:]) >= budget / 2
    assert moves(starts) <= 30  # one by one it would be about 270


def test_a_long_turns_own_steps_move_in_big_steps_too_and_its_words_stay() -> None:
    writer, budget = Writer(), 2_000
    writer.say("before")
    writer.end()
    writer.say("do a long thing")
    starts: list[int] = []
    for step in range(1, 200):
        writer.step(step, "z" * 40, "o" * 100)
        kept = writer.window(budget)
        words, first = kept[0], kept[1]
        if words["content"] == "do a long thing":
            starts.append(first["seq"])
            assert first["role"] == "assistant"
        assert any(line.get("content") == "do a long thing" for line in kept)
        assert spent(kept) <= budget + tokens_of(words)
    assert 1 <= moves(starts) <= 20


@settings(max_examples=60, deadline=None)
@given(
    turns=st.lists(st.tuples(st.integers(1, 600), st.lists(st.integers(1, 800), max_size=3)), min_size=1, max_size=60),
    budget=st.integers(60, 1_500),
)
def test_whatever_is_said_a_window_keeps_its_promises(turns: list[tuple[int, list[int]]], budget: int) -> None:
    """Each turn: the length of the words, and of each tool's output."""
    writer = Writer()
    last = 0
    for words, outputs in turns:
        writer.say("w" * words)
        for step, output in enumerate(outputs, 1):
            writer.step(step, "", "o" * output)
            kept = writer.window(budget)
            own = [line for line in kept if line["role"] == "user" and line["turn"] == writer.turn]
            assert own, "the running turn's words are there"
            assert spent(kept) <= budget + spent(own)
            assert kept[0]["role"] == "user"
            asked = {call["id"] for line in kept for call in L.calls_of(line)}
            assert asked == {line["call"] for line in kept if line["role"] == "tool"}
            assert kept == writer.window(budget), "any worker finds the same window"
            assert kept[0]["seq"] >= last or kept[0] in own
            last = max(last, kept[0]["seq"])
        writer.step(len(outputs) + 1, "done")
        writer.end()


def test_a_transcript_within_the_budget_is_shown_whole() -> None:
    writer = Writer()
    for _ in range(20):
        writer.say("hello")
        writer.step(1, "hello")
        writer.end()
    assert len(writer.window(10_000)) == 60


@pytest.mark.parametrize("event", [L.COMPACTION, L.NEW])
def test_nothing_before_a_compaction_or_a_new_talk_is_shown(event: str) -> None:
    writer = Writer()
    writer.say("long ago")
    writer.end()
    writer.write(L.event_line(writer.turn, event, content="a summary"))
    writer.say("now")
    kept = writer.window(10_000)
    assert [line.get("event") or line["content"] for line in kept] == [event, "now"]


def test_reading_costs_the_budget_and_not_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    writer = Writer()
    for _ in range(3_000):
        writer.say("x" * 200)
        writer.step(1, "y" * 200)
        writer.end()
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: read.append(size) or pread(fd, size, at))
    assert writer.window(4_000)
    assert sum(read) <= 256 * 1024
    assert writer.path.stat().st_size > 1024 * 1024


def test_beats_that_had_nothing_to_say_are_left_out_and_others_are_not() -> None:
    writer = Writer()
    for words, answer in (("hello", "HEARTBEAT_OK"), ("beat", "**HEARTBEAT_OK**"), ("beat", "The disk is full.")):
        writer.n += 1
        kind = {"kind": "heartbeat"} if words == "beat" else {}
        writer.write(L.user_line(writer.turn, f"m-{writer.n}", words, **kind))
        writer.step(1, answer)
        writer.end()
    writer.n += 1
    writer.write(L.user_line(writer.turn, "m-4", "beat", kind="heartbeat"))
    shown = writer.window(10_000)
    assert [line["n"] for line in shown if line["role"] == "user"] == [1, 3, 4]
    assert [line["content"] for line in shown if line["role"] == "assistant"] == ["HEARTBEAT_OK", "The disk is full."]

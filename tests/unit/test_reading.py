"""Reading a transcript, exactly: which lines a prompt gets, lines across blocks, and an end that grows, shrinks or is
replaced."""

import os
from pathlib import Path
from typing import Any

import pytest

from agent_session.domain.beats import Beats
from agent_session.domain.status import Status
from agent_session.domain.status_words import beat_lines
from agent_session.transcript import lines as L
from agent_session.transcript.index import BLOCK_BYTES, lines_backwards, lines_forward
from agent_session.transcript.reader import read_all, window
from agent_session.transcript.tail import LOOK_BACK_BYTES, READ_BYTES, Tail
from agent_session.transcript.volume import Volume

KEY = "k"


class Written:
    """A transcript that a test writes line by line."""

    def __init__(self, volume: Volume) -> None:
        self.volume, self.seq = volume, 0
        with volume.session_folder(KEY, create=True):
            self.path: Path = volume.path_of(KEY) / "history.jsonl"

    def add(self, *lines: L.Line) -> None:
        with self.path.open("ab") as file:
            for line in lines:
                self.seq += 1
                file.write(L.encode(line, self.seq, 1))

    def shown(self, budget: int = 1_000_000, turn: str = "t-none") -> list[int]:
        return [line["seq"] for line in window(self.volume, KEY, budget, turn)]


@pytest.fixture
def written(volume: Volume) -> Written:
    return Written(volume)


def said(turn: str, id: str = "1", **more: Any) -> L.Line:
    return L.user_line(turn, id, "words", **more)


def answered(turn: str, text: str = "answer", *calls: str, step: int = 1) -> L.Line:
    asked = [{"id": call, "name": "shell", "args": "{}"} for call in calls]
    return {"turn": turn, "role": "assistant", "step": step, "content": text, "tool_calls": asked}


def over(turn: str) -> L.Line:
    return L.event_line(turn, L.ENDED, outcome="answered")


# --- what a prompt gets ---


def test_a_result_whose_call_was_cut_off_is_left_out_and_events_of_calls_stay(written: Written) -> None:
    started, decided = L.event_line("t-a", L.STARTED, call="lost"), L.event_line("t-a", L.APPROVAL, call="lost")
    written.add(said("t-a"), started, decided, L.result_line("t-a", "lost", "ok", "out"))
    written.add(answered("t-a", "", "kept"), L.result_line("t-a", "kept", "ok", "out"), answered("t-a", step=2))
    assert written.shown() == [1, 2, 3, 5, 6, 7]


def test_a_quiet_heartbeat_is_left_out_whole_and_only_once_it_is_over(written: Written) -> None:
    written.add(said("t-a"), answered("t-a"), over("t-a"))
    written.add(said("t-b", kind="heartbeat"), answered("t-b", "HEARTBEAT_OK"), over("t-b"))
    written.add(said("t-c", kind="heartbeat"), answered("t-c", "Look: it burns."), over("t-c"))
    written.add(said("t-d", kind="heartbeat"), answered("t-d", "HEARTBEAT_OK", "call"))
    written.add(L.result_line("t-d", "call", "ok", "out"), answered("t-d", "HEARTBEAT_OK", step=2), over("t-d"))
    written.add(said("t-e"), answered("t-e", "HEARTBEAT_OK"), over("t-e"))
    assert written.shown() == [1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]
    assert written.shown(turn="t-b") == list(range(1, 18))


def test_a_window_goes_back_to_the_last_new_and_holds_it(written: Written) -> None:
    written.add(said("t-a"), answered("t-a"), over("t-a"), L.event_line("t-b", L.NEW))
    written.add(said("t-b"), answered("t-b"), over("t-b"))
    assert written.shown() == [4, 5, 6, 7]


def test_what_a_turn_opened_with_is_shown_though_its_steps_fill_the_budget(written: Written) -> None:
    written.add(said("t-a", "1"), said("t-a", "2"))
    for step in range(1, 9):
        written.add(answered("t-a", "x" * 4_000, f"c{step}", step=step), L.result_line("t-a", f"c{step}", "ok", "o"))
    shown = written.shown(5 * 1_020, "t-a")
    assert shown[:2] == [1, 2]
    assert shown[2] % 2 == 1, "at a step"
    assert shown[-1] == 18


def test_a_window_that_is_cut_begins_where_a_turn_began_and_not_at_words_that_joined_it(written: Written) -> None:
    for n in range(1, 5):
        turn = f"t-{n}"
        note = L.event_line(turn, L.NOTE, text="ahead of the words")
        lines = [note, said(turn, "1"), answered(turn, "x" * 400, f"c{n}"), said(turn, "2"), over(turn)]
        with written.path.open("ab") as file:
            for line in lines:
                written.seq += 1
                file.write(L.encode(line, written.seq, n))
    starts = {budget: written.shown(budget)[0] for budget in (140, 300, 340, 420, 460, 540, 580)}
    assert starts == {140: 17, 300: 17, 340: 12, 420: 12, 460: 7, 540: 7, 580: 1}


# --- lines across blocks ---


@pytest.mark.parametrize("sizes", [(1, 1), (BLOCK_BYTES,), (BLOCK_BYTES - 1, 3), (3 * BLOCK_BYTES + 5, 1, BLOCK_BYTES)])
@pytest.mark.parametrize("torn", [b"", b"torn"])
def test_lines_are_the_same_from_both_ends_whatever_their_length(
    tmp_path: Path, sizes: tuple[int, ...], torn: bytes
) -> None:
    lines = [bytes([65 + at]) * size + b"\n" for at, size in enumerate(sizes)]
    path = tmp_path / "lines"
    path.write_bytes(b"".join(lines) + torn)
    ends = [sum(map(len, lines[: at + 1])) for at in range(len(lines))]
    descriptor = os.open(path, os.O_RDONLY)
    try:
        forward = list(lines_forward(descriptor, 0))
        backward = list(lines_backwards(descriptor, path.stat().st_size))
        behind_the_first = list(lines_forward(descriptor, ends[0]))
        only_the_first = list(lines_forward(descriptor, 0, ends[0]))
    finally:
        os.close(descriptor)
    assert forward == list(zip(ends, lines, strict=True))
    assert backward == [(end - len(raw), raw) for end, raw in reversed(forward)]
    assert behind_the_first == forward[1:]
    assert only_the_first == forward[:1]


def test_reading_all_names_a_bad_line_by_number_and_place(written: Written) -> None:
    written.add(said("t-a"))
    first = written.path.stat().st_size
    with written.path.open("ab") as file:
        file.write(b"no json\n")
    written.add(said("t-a", "2"))
    found = list(read_all(written.volume, KEY))
    assert [behind for behind, _, _ in found] == [first, first + 8, written.path.stat().st_size]
    bad: Any = found[1][2]
    assert (bad.number, bad.offset, found[1][1]) == (2, first, b"no json\n")
    assert [one[0] for one in read_all(written.volume, KEY, first)] == [one[0] for one in found[1:]]


# --- an end that grows ---


def test_a_tail_tells_a_turns_end_once_it_is_written_whole(written: Written) -> None:
    tail = Tail(written.volume, KEY)
    assert tail.look(["1"]) == {}
    written.add(said("t-a", "1"), said("t-a", "2"))
    assert tail.look(["1", "2"]) == {}
    raw = L.encode(over("t-a"), 3, 1)
    with written.path.open("ab") as file:
        file.write(raw[:-1])
    assert tail.look(["1", "2"]) == {}
    with written.path.open("ab") as file:
        file.write(raw[-1:])
    assert tail.look(["1", "2", "3"]) == {"1": "t-a", "2": "t-a"}
    assert tail.look(["2"]) == {"2": "t-a"}


def test_a_tail_that_began_with_an_empty_world_reads_it_from_its_first_line(written: Written) -> None:
    tail = Tail(written.volume, KEY)
    tail.look(["1"])  # there is no transcript yet
    written.add(said("t-a", "1"), answered("t-a", "x" * 2 * LOOK_BACK_BYTES), over("t-a"))
    assert tail.look(["1"]) == {"1": "t-a"}


def test_a_tail_that_comes_late_looks_back_a_little_and_is_told_the_rest(written: Written) -> None:
    written.add(said("t-a", "1"), answered("t-a", "x" * 2 * LOOK_BACK_BYTES), over("t-a"))
    tail = Tail(written.volume, KEY)
    assert tail.look(["1"]) == {}
    assert tail.look(["1"], {"1": "t-a"}) == {"1": "t-a"}


def test_a_tail_skips_what_grew_too_much_but_for_its_end(written: Written) -> None:
    tail = Tail(written.volume, KEY)
    written.add(said("t-a", "1"))
    tail.look(["1"])
    written.add(over("t-a"), answered("t-b", "x" * READ_BYTES), said("t-b", "2"), over("t-b"))
    assert tail.look(["1", "2"]) == {"2": "t-b"}


@pytest.mark.parametrize("replaced", [True, False])
def test_a_tail_forgets_what_another_copy_does_not_say(written: Written, tmp_path: Path, replaced: bool) -> None:
    written.add(said("t-a", "1"))
    kept = written.path.read_bytes()
    written.add(over("t-a"), said("t-b", "2"), over("t-b"))
    tail = Tail(written.volume, KEY)
    assert tail.look(["1", "2"]) == {"1": "t-a", "2": "t-b"}
    if replaced:
        whole = written.path.read_bytes()
        (tmp_path / "other").write_bytes(kept + b" " * (len(whole) - len(kept) - 1) + b"\n")
        os.replace(tmp_path / "other", written.path)
    else:
        os.truncate(written.path, len(kept))
    assert tail.look(["1", "2"]) == {}
    written.seq = 1
    written.add(over("t-a"))
    assert tail.look(["1", "2"]) == {"1": "t-a"}


# --- heartbeats in words ---


def test_heartbeats_in_words() -> None:
    assert beat_lines(Status(key="k"), 1_000) == []
    ran = Status(key="k", beats=3, beat_s=940, beat_outcome="quiet", beat_tokens=1_200)
    assert beat_lines(ran, 1_000) == ["  heartbeats: 3 ran, the last 01:00 ago: quiet, 1.2k tokens today"]
    skipped = Status(key="k", beats_skipped=2, beat_skip="unheard-of", beat_skip_s=995)
    assert beat_lines(skipped, 1_000) == ["  heartbeats: 2 skipped, the last 00:05 ago: unheard-of"]
    both = Status(
        key="k", beats=1, beat_s=999, beat_outcome="answered", beats_skipped=1, beat_skip="busy", beat_skip_s=0
    )
    (line,) = beat_lines(both, 1_000)
    assert line == (
        "  heartbeats: 1 ran, the last 00:01 ago: answered · 1 skipped, the last 16:40 ago: the session was busy"
    )


def test_what_a_session_counts_of_its_heartbeats() -> None:
    day = 86_400
    counted = Beats().spending(5, day - 1).spending(7, day - 1)
    assert (counted.tokens_on(day - 1), counted.tokens_on(day)) == (12, 0)
    assert counted.spending(1, day) == Beats(day=1, tokens=1)
    assert Beats().ending("quiet", 9).ending("failed", 10) == Beats(ran=2, last_s=10, outcome="failed")
    assert Beats().skipping("busy", 9).skipping("budget", 10) == Beats(skipped=2, skip="budget", skip_s=10)

"""Where a prompt's window begins, exactly: at the roundest turn of the older half of what the budget holds."""

from pathlib import Path

import pytest

from agent_session.transcript import lines as L
from agent_session.transcript.reader import tokens_of, window
from agent_session.transcript.volume import Volume

KEY = "k"


def write(volume: Volume, turns: int, steps: int = 1) -> list[L.Line]:
    """Turns that are all alike; returns the lines."""
    lines: list[L.Line] = []
    for n in range(1, turns + 1):
        turn = f"t-{n:016x}"
        made: list[L.Line] = [L.user_line(turn, f"{n:016x}", "words " * 20)]
        for step in range(1, steps + 1):
            calls = [{"id": f"{turn}-{step}-0", "name": "shell", "args": "{}"}] if step < steps else []
            made.append({"turn": turn, "role": "assistant", "step": step, "content": "answer", "tool_calls": calls})
            if calls:
                made.append(L.result_line(turn, f"{turn}-{step}-0", "ok", "out " * 20))
        made.append(L.event_line(turn, L.ENDED, outcome="answered"))
        lines += [{"n": n, **line} for line in made]
    with volume.session_folder(KEY, create=True):
        path: Path = volume.path_of(KEY) / "history.jsonl"
    raw = [L.encode({k: v for k, v in line.items() if k != "n"}, seq, line["n"]) for seq, line in enumerate(lines, 1)]
    path.write_bytes(b"".join(raw))
    return [decoded for one in raw if (decoded := L.decode(one)) is not None]


def tokens_of_a_turn(lines: list[L.Line]) -> int:
    last = lines[-1]["turn"]
    return sum(tokens_of(line) for line in lines if line["turn"] == last)


@pytest.mark.parametrize(
    ("turns", "first"),
    [(16, 12), (17, 14), (18, 16), (19, 16), (20, 16), (21, 18), (22, 20), (23, 20), (24, 20), (25, 22), (31, 28)],
)
def test_five_turns_of_budget_begin_at_the_roundest_of_the_first_three(volume: Volume, turns: int, first: int) -> None:
    lines = write(volume, turns)
    budget = tokens_of_a_turn(lines) * 5 + 20  # and the end of the turn before
    shown = window(volume, KEY, budget, "t-none")
    assert (shown[0]["n"], shown[0]["role"], shown[-1]["n"]) == (first, "user", turns)
    assert shown == [line for line in lines if line["n"] >= first]


def test_what_fits_is_shown_whole_and_one_token_less_is_not(volume: Volume) -> None:
    lines = write(volume, 6)
    whole = sum(map(tokens_of, lines))
    assert window(volume, KEY, whole, "t-none") == lines
    assert window(volume, KEY, whole - 1, "t-none")[0]["n"] > 1


def test_a_turn_that_fills_the_budget_alone_begins_at_a_step_behind_its_words(volume: Volume) -> None:
    lines = write(volume, 1, steps=16)
    budget = sum(map(tokens_of, lines)) // 3
    shown = window(volume, KEY, budget, lines[0]["turn"])
    words, first = shown[0], shown[1]
    assert (words["role"], first["role"]) == ("user", "assistant")
    assert first["step"] == max(
        (line["step"] for line in lines if line["role"] == "assistant" and line["seq"] >= shown[1]["seq"]),
        key=lambda step: step & -step if step <= first["step"] else 0,
    )
    asked = {call["id"] for line in shown if line["role"] == "assistant" for call in line["tool_calls"]}
    assert {line["call"] for line in shown if line["role"] == "tool"} == asked

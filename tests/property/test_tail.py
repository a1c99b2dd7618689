"""Who waits for an answer learns of every turn's end from the transcript, once it stands for good."""

import fcntl
import itertools
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_session.transcript import lines as L
from agent_session.transcript.tail import KEPT, LOOK_BACK_BYTES, READ_BYTES, Tail
from agent_session.transcript.volume import Volume
from tests.property.volumes import new_volume

TURN = "t-1"


class Writer:
    """Bytes of a transcript, as a worker appends them."""

    def __init__(self, volume: Volume) -> None:
        with volume.session_folder("k", create=True):
            self.path = volume.path_of("k") / "history.jsonl"
        self.seq = 0

    def encode(self, *lines: L.Line) -> bytes:
        found = b""
        for line in lines:
            self.seq += 1
            found += L.encode(line, self.seq, 1)
        return found

    def append(self, *lines: L.Line) -> None:
        self.write(self.encode(*lines))

    def write(self, data: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(data)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with self.path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def taken(scoped: str, turn: str = TURN) -> L.Line:
    return L.user_line(turn, scoped, "hello")


def ended(turn: str = TURN) -> L.Line:
    return L.event_line(turn, L.ENDED, outcome="answered")


def test_a_message_is_answered_when_its_turn_has_ended() -> None:
    volume = new_volume()
    writer, tail = Writer(volume), Tail(volume, "k")
    nothing_yet = tail.look(["m"])
    writer.append(taken("m"))
    open_still = tail.look(["m"])
    writer.append(ended())
    assert (nothing_yet, open_still, tail.look(["m", "other"])) == ({}, {}, {"m": TURN})


@settings(deadline=None)
@given(st.integers(1, 6), st.lists(st.integers(0, 2_000), max_size=12))
def test_every_end_is_seen_however_the_bytes_arrive(turns: int, cuts: list[int]) -> None:
    volume = new_volume()
    writer, tail = Writer(volume), Tail(volume, "k")
    ids = [f"m{number}" for number in range(turns)]
    data = writer.encode(*(line for one in ids for line in (taken(one, f"t-{one}"), ended(f"t-{one}"))))
    seen: dict[str, str] = {}
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for begin, end in itertools.pairwise(places):
        writer.write(data[begin:end])
        seen |= tail.look(ids)
    assert seen == {one: f"t-{one}" for one in ids}


def test_what_a_writer_may_still_take_back_is_not_reported() -> None:
    volume = new_volume()
    writer, tail = Writer(volume), Tail(volume, "k")
    with writer.at_work():
        writer.append(taken("m"), ended())
        under_way = tail.look(["m"])
    assert (under_way, tail.look(["m"])) == ({}, {"m": TURN})


def test_an_end_that_was_taken_back_is_forgotten() -> None:
    volume = new_volume()
    writer, tail = Writer(volume), Tail(volume, "k")
    writer.append(taken("m"))
    before = writer.path.stat().st_size
    with writer.at_work():
        writer.append(ended())
        tail.look(["m"])
        os.truncate(writer.path, before)
    assert tail.look(["m"]) == {}


def test_a_restored_copy_is_read_anew() -> None:
    volume = new_volume()
    writer, tail = Writer(volume), Tail(volume, "k")
    writer.append(taken("m"), ended(), taken("n", "t-2"), ended("t-2"))
    tail.look(["m"])
    writer.path.write_bytes(writer.encode(taken("n", "t-3")))
    assert tail.look(["m", "n"]) == {}


def test_the_first_look_costs_the_same_in_a_long_transcript() -> None:
    volume = new_volume()
    writer, tail = Writer(volume), Tail(volume, "k")
    writer.append(taken("old", "t-0"), ended("t-0"))
    for _ in range(2):
        writer.append(L.user_line("t-x", "x", "y" * LOOK_BACK_BYTES))
    writer.append(taken("m"), ended())
    assert tail.look(["old", "m"]) == {"m": TURN}


def test_a_turn_that_was_learnt_elsewhere_is_followed_to_its_end() -> None:
    volume = new_volume()
    writer, tail = Writer(volume), Tail(volume, "k")
    writer.append(taken("m"), L.user_line("t-x", "x", "y" * LOOK_BACK_BYTES))
    tail.look(["m"])
    writer.append(ended())
    assert tail.look(["m"]) == {}
    assert tail.look(["m"], {"m": TURN}) == {"m": TURN}


def test_a_copy_in_its_place_that_is_longer_is_read_anew() -> None:
    volume = new_volume()
    writer, tail = Writer(volume), Tail(volume, "k")
    writer.append(taken("m"), ended())
    tail.look(["m"])
    other = writer.path.with_suffix(".other")
    other.write_bytes(writer.encode(taken("n", "t-2"), taken("m", "t-3"), taken("o", "t-4"), taken("p", "t-5")))
    os.replace(other, writer.path)
    assert tail.look(["m", "n"]) == {}


def test_damage_is_passed_over() -> None:
    volume = new_volume()
    writer, tail = Writer(volume), Tail(volume, "k")
    writer.write(b'{"seq": \n[1, 2]\n\xff\xfe\n' + orjson.dumps({"seq": 1, "role": "event", "event": "ended"}) + b"\n")
    writer.append(taken("m"), ended())
    assert tail.look(["m"]) == {"m": TURN}


def test_memory_is_bounded_and_keeps_the_newest() -> None:
    volume = new_volume()
    writer, tail = Writer(volume), Tail(volume, "k")
    tail.look([])
    writer.append(taken("first", "t-0"), ended("t-0"))
    many = [f"m{number}" for number in range(KEPT)]
    writer.append(*(line for one in many for line in (taken(one, f"t-{one}"), ended(f"t-{one}"))))
    found = tail.look(["first", *random.sample(many, 10), many[-1]])
    assert "first" not in found
    assert many[-1] in found
    assert len(found) >= 10


def test_a_huge_growth_is_not_read_at_once() -> None:
    volume = new_volume()
    writer, tail = Writer(volume), Tail(volume, "k")
    writer.append(taken("old", "t-0"))
    tail.look([])
    writer.append(ended("t-0"))
    writer.write(b"x" * (READ_BYTES + 1) + b"\n")
    writer.append(taken("m"), ended())
    assert tail.look(["old", "m"]) == {"m": TURN}


def test_a_volume_that_is_away_is_an_error() -> None:
    volume = new_volume()
    Writer(volume).append(taken("m"), ended())
    (volume.root / ".agent-session-volume").unlink()
    with pytest.raises(OSError, match="not mounted"):
        Tail(volume, "k").look(["m"])

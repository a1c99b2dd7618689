"""Arrivals follow the curve of the day; heartbeats come on the minute."""

import math
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from bench.scale.scenario import DAY_S, HOUR_S, ZONES, Beats, People
from bench.scale.visitors import beats, conversations, peak_factor


def test_as_many_conversations_come_as_are_expected() -> None:
    people = People(conversations_a_day=2.0)
    found = list(conversations(people, 10_000, DAY_S, Random(1)))
    assert len(found) == pytest.approx(20_000, abs=4 * math.sqrt(20_000))
    assert all(early[0] <= late[0] for early, late in pairwise(found))
    assert all(0 <= session < 10_000 for _, session in found)


def test_they_come_when_their_time_zone_is_awake() -> None:
    one_zone = replace(People(), zones=((-8, 1.0),))
    hours = [int(at // HOUR_S) for at, _ in conversations(one_zone, 5_000, DAY_S, Random(1))]
    night, day = sum(10 <= hour < 13 for hour in hours), sum(17 <= hour < 20 for hour in hours)
    assert day > 10 * night


def test_each_zone_has_its_share() -> None:
    found = list(conversations(People(), 10_000, DAY_S, Random(1)))
    first = sum(session < 10_000 * ZONES[0][1] for _, session in found)
    assert first / len(found) == pytest.approx(ZONES[0][1], abs=0.02)


def test_the_busiest_quarter_of_an_hour_is_as_busy_as_said() -> None:
    people = People(conversations_a_day=20.0)
    quarters = [0] * 96
    for at, _ in conversations(people, 10_000, DAY_S, Random(1)):
        quarters[int(at // 900)] += 1
    assert max(quarters) / (sum(quarters) / 96) == pytest.approx(peak_factor(people), rel=0.05)


def test_a_session_beats_every_half_hour_with_a_jitter_of_its_own() -> None:
    found = list(beats(Beats(share=0.5, jitter_s=300.0), 100, 2 * HOUR_S, Random(1)))
    assert len(found) == 50 * 4
    of_one = [at for at, session in found if session == found[0][1]]
    assert [late - early for early, late in pairwise(of_one)] == pytest.approx([1_800.0] * 3)
    assert all(at % 1_800 < 300 for at, _ in found)

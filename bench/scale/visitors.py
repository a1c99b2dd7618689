"""When people and heartbeats come. Draws times and sessions; knows nothing of what becomes of them."""

from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate
from random import Random

from bench.scale.scenario import DAY_S, HOUR_S, Beats, People


def activity(people: People, zone: int, at_s: float) -> float:
    """How busy people of a time zone are at this second of the UTC day, straight between the hours."""
    hour = (at_s / HOUR_S + zone) % 24
    low = int(hour)
    here, after = people.hours[low], people.hours[(low + 1) % 24]
    return here + (after - here) * (hour - low)


def day_curve(people: People, at_s: float) -> float:
    """The same for everybody together."""
    return sum(share * activity(people, zone, at_s) for zone, share in people.zones)


def peak_factor(people: People) -> float:
    """The busiest quarter of an hour over the mean of the day."""
    curve = [day_curve(people, at * DAY_S / 96) for at in range(96)]
    return max(curve) / (sum(curve) / len(curve))


def conversations(people: People, sessions: int, length_s: float, source: Random) -> Iterator[tuple[float, int]]:
    """When one begins, and of which session: a Poisson process whose rate follows the day, by thinning."""
    curve = [day_curve(people, at * DAY_S / 1_440) for at in range(1_440)]
    mean = sum(curve) / len(curve)
    most = max(curve)
    fastest = sessions * people.conversations_a_day / DAY_S * most / mean
    bounds = [round(sessions * share) for share in accumulate(share for _, share in people.zones)]
    at_s = 0.0
    while True:
        at_s += source.expovariate(fastest)
        if at_s >= length_s:
            return
        here = [share * activity(people, zone, at_s) for zone, share in people.zones]
        place = source.random() * most
        if place >= sum(here):
            continue
        zone = min(bisect(list(accumulate(here)), place), len(bounds) - 1)
        low, high = (bounds[zone - 1] if zone else 0), bounds[zone]
        if high > low:
            yield at_s, low + int(source.random() * (high - low))


def beats(given: Beats, sessions: int, length_s: float, source: Random) -> Iterator[tuple[float, int]]:
    """Each session's beats: on the same minutes, later by a jitter that stays the session's own."""
    count = round(sessions * given.share)
    mine = sorted((source.random() * given.jitter_s, session) for session in source.sample(range(sessions), count))
    round_s = 0.0
    while round_s < length_s:
        for jitter_s, session in mine:
            if round_s + jitter_s < length_s:
                yield round_s + jitter_s, session
        round_s += given.every_s

"""Random times: lognormal ones by their median and spread, and ones drawn from measured quantiles. Pure.

Each purpose has a random source of its own (`Sources`): two scalers or two fleets then meet the same people.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Lognormal:
    """Seconds: half of them are below `median_s`; `sigma` is the spread of their logarithm."""

    median_s: float
    sigma: float

    @property
    def mean_s(self) -> float:
        return self.median_s * math.exp(self.sigma**2 / 2)

    def draw(self, source: Random) -> float:
        return self.median_s * math.exp(source.gauss(0.0, self.sigma)) if self.sigma else self.median_s


@dataclass(frozen=True)
class Quantiles:
    """Seconds, by measured quantiles at equal distances from the least to the greatest; straight between two."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, samples: Sequence[float], count: int = 21) -> "Quantiles":
        """Of measured samples. Errors: ValueError without any."""
        if not samples:
            raise ValueError("there are no samples to take quantiles of")
        ordered = sorted(samples)
        last = len(ordered) - 1
        return cls(tuple(_between(ordered, last * at / (count - 1)) for at in range(count)))

    @property
    def mean_s(self) -> float:
        pairs = zip(self.values, self.values[1:], strict=False)
        return sum((low + high) / 2 for low, high in pairs) / (len(self.values) - 1)

    def draw(self, source: Random) -> float:
        return _between(self.values, source.random() * (len(self.values) - 1))


def _between(ordered: Sequence[float], place: float) -> float:
    low = min(int(place), len(ordered) - 1)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


class Sources:
    """Random sources that do not disturb each other: what one draws more does not shift another's numbers."""

    def __init__(self, seed: int) -> None:
        self.people = Random(f"{seed} people")  #: when conversations begin
        self.talk = Random(f"{seed} talk")  #: how they go on
        self.beats = Random(f"{seed} beats")
        self.turns = Random(f"{seed} turns")
        self.fleet = Random(f"{seed} fleet")
        self.faults = Random(f"{seed} faults")

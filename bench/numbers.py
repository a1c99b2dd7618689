"""What a measurement is: a number, the floor's number beside it, and what it must reach. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

LOWER, HIGHER = "lower", "higher"


@dataclass(frozen=True)
class Metric:
    """One line of the table. `goal` holds for the ratio where there is a floor, else for the value, unless
    `goal_of` says which."""

    name: str
    value: float
    unit: str
    floor: float | None = None
    better: str = LOWER
    goal: float | None = None
    goal_of: str = ""  #: "ratio" or "value"
    note: str = ""

    @property
    def family(self) -> str:
        return self.name.partition(".")[0]

    @property
    def ratio(self) -> float | None:
        return self.value / self.floor if self.floor else None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.goal is None:
            return None
        on_value = self.goal_of == "value" or self.ratio is None
        reached = self.value if on_value else self.ratio
        assert reached is not None
        return reached <= self.goal if self.better == LOWER else reached >= self.goal

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self) | {"ratio": self.ratio, "met": self.met}


def metric_from(plain: dict[str, Any]) -> Metric:
    return Metric(**{name: plain[name] for name in Metric.__dataclass_fields__ if name in plain})


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def latencies(name: str, ours: Sequence[float], floor: Sequence[float], goal: float | None = None) -> list[Metric]:
    """p50 and p95 in milliseconds, of samples taken in turn; the goal is for p50."""
    return [
        Metric(f"{name}.p50", median(ours) * 1e3, "ms", median(floor) * 1e3, goal=goal),
        Metric(f"{name}.p95", percentile(ours, 95) * 1e3, "ms", percentile(floor, 95) * 1e3),
    ]

"""What a simulated day came to. Counts and samples while it runs, plain numbers at its end."""

import statistics
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from bench.numbers import percentile

PERSON, BEAT = "person", "beat"


@dataclass
class Outcome:
    """Times in seconds."""

    counts: Counter[str] = field(default_factory=Counter[str])
    #: of each turn of a person: waiting for slots, and all that is not the model's and the tools' own time
    waits: "array[float]" = field(default_factory=lambda: array("d"))
    added: "array[float]" = field(default_factory=lambda: array("d"))
    replies: "array[float]" = field(default_factory=lambda: array("d"))  #: of each of their messages, until its reply
    ended: "array[float]" = field(default_factory=lambda: array("d"))
    beat_waits: "array[float]" = field(default_factory=lambda: array("d"))
    #: time, build, workers, slots used, backlog
    samples: list[tuple[float, int, int, int, int]] = field(default_factory=list[tuple[float, int, int, int, int]])
    #: worker, slot, from, to: only when the scenario asks
    slots: list[tuple[int, int, float, float]] = field(default_factory=list[tuple[int, int, float, float]])
    worker_s: float = 0.0
    slot_s: float = 0.0
    drained_s: float = 0.0  #: from a deploy to its old build's last session

    def summary(self) -> dict[str, Any]:
        """Plain numbers, rounded, for JSON and tables."""
        workers = [sum(one[2] for one in group) for group in self._by_time()]
        return {
            "counts": dict(sorted(self.counts.items())),
            "wait_s": quantiles(self.waits),
            "added_s": quantiles(self.added),
            "reply_s": quantiles(self.replies),
            "beat_wait_s": quantiles(self.beat_waits),
            "workers": {
                "least": min(workers, default=0),
                "mean": round(statistics.fmean(workers), 1) if workers else 0.0,
                "most": max(workers, default=0),
            },
            "worker_hours": round(self.worker_s / 3_600, 1),
            "slot_hours": round(self.slot_s / 3_600, 1),
            "drained_s": round(self.drained_s),
        }

    def between(self, from_s: float, to_s: float) -> dict[str, float]:
        """Quantiles of the waits of turns that ended in a stretch of the day."""
        return quantiles([wait for wait, at in zip(self.waits, self.ended, strict=True) if from_s <= at < to_s])

    def hours(self) -> list[tuple[int, int, int]]:
        """Of each hour: its number, the most workers and the most slots in use that were seen."""
        found: dict[int, tuple[int, int]] = {}
        for group in self._by_time():
            hour = int(group[0][0] // 3_600)
            workers, slots = found.get(hour, (0, 0))
            found[hour] = max(workers, sum(one[2] for one in group)), max(slots, sum(one[3] for one in group))
        return [(hour, *values) for hour, values in sorted(found.items())]

    def _by_time(self) -> list[list[tuple[float, int, int, int, int]]]:
        groups: dict[float, list[tuple[float, int, int, int, int]]] = {}
        for one in self.samples:
            groups.setdefault(one[0], []).append(one)
        return list(groups.values())


def quantiles(values: "array[float] | list[float]") -> dict[str, float]:
    if not len(values):
        return {}
    found = {f"p{percent}": round(percentile(values, percent), 3) for percent in (50, 95, 99)}
    return found | {"most": round(max(values), 3)}

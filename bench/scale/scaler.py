"""How many workers an autoscaler wants: KEDA's triggers through Kubernetes' HorizontalPodAutoscaler. Pure.

The rules are theirs, with the settings of k8s/components/keda (a test compares them): each trigger gives a total and a
target for one pod, the greatest wish wins, and within 10 % of the target nothing changes. Up at once, at most doubling
or two more a round. Down only to the greatest wish of the last five minutes, and by a quarter a minute.
"""

import math
from collections import deque
from dataclasses import dataclass

TOLERANCE = 0.1


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Settings of one ScaledObject. A trigger with target 0 is not there."""

    least: int = 2
    most: int = 100
    round_s: float = 15.0  #: between two looks
    backlog_target: float = 5.0  #: tasks that wait in the queue, for each worker
    slots_target: float = 0.7  #: share of the slots in use
    settle_s: float = 300.0  #: before fewer workers are taken
    up_pods: int = 2  #: in one round, or
    up_factor: float = 2.0  #: whichever is more
    down_share: float = 0.25  #: of the workers, in
    down_period_s: float = 60.0


@dataclass(frozen=True)
class Seen:
    """What the triggers read."""

    workers: int
    backlog: int
    slots_used: int
    slots_each: int


def wanted(rule: Rule, seen: Seen) -> int:
    """The greatest wish of the triggers."""
    totals = ((seen.backlog, rule.backlog_target), (seen.slots_used, rule.slots_target * seen.slots_each))
    wishes = [_wish(total, target, seen.workers) for total, target in totals if target > 0]
    return max(rule.least, min(rule.most, max(wishes, default=seen.workers)))


def _wish(total: float, target: float, workers: int) -> int:
    if workers and abs(total / (target * workers) - 1.0) <= TOLERANCE:
        return workers
    return math.ceil(total / target)


class Scaler:
    """Remembers the wishes, and what it took away, of the last minutes."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._wishes: deque[tuple[float, int]] = deque()
        self._taken: deque[tuple[float, int]] = deque()

    def decide(self, now_s: float, seen: Seen) -> int:
        """How many workers there should be from now on."""
        wish = wanted(self.rule, seen)
        while self._wishes and self._wishes[0][0] <= now_s - self.rule.settle_s:
            self._wishes.popleft()
        while self._wishes and self._wishes[-1][1] <= wish:  # a greater, later one outlives it
            self._wishes.pop()
        self._wishes.append((now_s, wish))
        if wish >= seen.workers:
            return min(wish, max(seen.workers + self.rule.up_pods, math.ceil(seen.workers * self.rule.up_factor)))
        return self._down(now_s, seen.workers, min(seen.workers, self._wishes[0][1]))

    def _down(self, now_s: float, workers: int, target: int) -> int:
        while self._taken and self._taken[0][0] <= now_s - self.rule.down_period_s:
            self._taken.popleft()
        at_first = workers + sum(count for _, count in self._taken)
        target = max(target, min(workers, math.floor(at_first * (1 - self.rule.down_share))))
        if target < workers:
            self._taken.append((now_s, workers - target))
        return target

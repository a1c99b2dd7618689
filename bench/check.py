"""Whether anything has become worse than in the baseline, beyond noise: a ratio or a count by more than a fifth, or a
goal that was met and is not any more. Only what repeats counts. Pure, but for the measuring that it is handed."""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from bench.numbers import LOWER, Metric

TOLERANCE = 0.20
TAILS = ".p95"  #: of a few dozen samples: shown, and not judged
COUNTS = ("", "B", "KB")  #: units that no machine changes
TRIES = 3  #: a regression must show each time its family is measured

Measure = Callable[[str], Awaitable[Sequence[Metric]]]


def regressed(before: Metric, now: Metric) -> bool:
    """Whether it got worse by more than the tolerance, or misses a goal that it met. Other numbers without a floor
    are the machine's."""
    if now.name.endswith(TAILS):
        return False
    if before.met and now.met is False:
        return True
    then, since = before.ratio, now.ratio
    if (then is None or since is None) and now.unit in COUNTS:
        then, since = before.value, now.value
    if then is None or since is None:
        return False
    if now.better == LOWER:
        return since > then * (1 + TOLERANCE)
    return since < then * (1 - TOLERANCE)


def worse(baseline: Iterable[Metric], now: Iterable[Metric]) -> dict[str, tuple[Metric, Metric]]:
    """What regressed of what both have measured, by name: then and now."""
    known = {one.name: one for one in baseline}
    return {one.name: (known[one.name], one) for one in now if one.name in known and regressed(known[one.name], one)}


async def confirmed(
    baseline: Sequence[Metric], now: Sequence[Metric], again: Measure
) -> dict[str, tuple[Metric, Metric]]:
    """What regressed, and did so again each time its family was measured anew."""
    found = worse(baseline, now)
    for _ in range(TRIES - 1):
        fresh: list[Metric] = []
        for family in sorted({one.family for _, one in found.values()}):
            fresh += await again(family)
        repeated = worse(baseline, fresh)
        found = {name: repeated[name] for name in found if name in repeated}
    return found


def missing(baseline: Iterable[Metric], now: Iterable[Metric]) -> list[str]:
    """Names that the baseline has and this run, which measured their family, has not: renamed, or forgotten."""
    names = {one.name for one in now}
    families = {one.family for one in now}
    return [one.name for one in baseline if one.family in families and one.name not in names]


def words_of(found: dict[str, tuple[Metric, Metric]]) -> str:
    return "\n".join(f"REGRESSION {name}: {_shown(before)} -> {_shown(now)}" for name, (before, now) in found.items())


def _shown(one: Metric) -> str:
    verdict = " (goal missed)" if one.met is False else ""
    return (f"ratio {one.ratio:.2f}" if one.ratio is not None else f"{one.value:.3g} {one.unit}".strip()) + verdict

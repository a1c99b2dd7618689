"""Whether ratios have become worse than the baseline's, beyond noise: only what repeats counts. Pure, but
for the measuring that it is handed."""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from bench.numbers import LOWER, Metric

TOLERANCE = 0.20
TAILS = ".p95"  #: of a few dozen samples: shown, and not judged
TRIES = 3  #: a regression must show each time its family is measured

Measure = Callable[[str], Awaitable[Sequence[Metric]]]


def regressed(before: Metric, now: Metric) -> bool:
    """Whether a ratio got worse by more than the tolerance. Numbers without a floor are the machine's."""
    if before.ratio is None or now.ratio is None or now.name.endswith(TAILS):
        return False
    if now.better == LOWER:
        return now.ratio > before.ratio * (1 + TOLERANCE)
    return now.ratio < before.ratio * (1 - TOLERANCE)


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


def words_of(found: dict[str, tuple[Metric, Metric]]) -> str:
    return "\n".join(
        f"REGRESSION {name}: ratio {before.ratio:.2f} -> {now.ratio:.2f}" for name, (before, now) in found.items()
    )

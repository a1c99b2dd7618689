"""The autoscaler's rules, as KEDA and the HorizontalPodAutoscaler have them."""

from hypothesis import given
from hypothesis import strategies as st

from bench.scale.scaler import Rule, Scaler, Seen, wanted

RULE = Rule(least=2, most=50, backlog_target=5.0, slots_target=0.7, settle_s=300.0)


def seen(workers: int, backlog: int = 0, used: int = 0) -> Seen:
    return Seen(workers, backlog, used, 40)


def test_the_greatest_wish_wins() -> None:
    assert wanted(RULE, seen(4, backlog=100)) == 20
    assert wanted(RULE, seen(4, backlog=100, used=40 * 21)) == 30


def test_near_the_target_nothing_changes() -> None:
    assert wanted(RULE, seen(10, used=290)) == 10
    assert wanted(RULE, seen(10, used=340)) == 13


def test_backlog_alone_does_not_see_slots_that_are_all_in_use() -> None:
    """The reason for the second trigger: without it a fleet that just copes is taken away."""
    alone = Rule(least=2, most=50, slots_target=0.0)
    assert wanted(alone, seen(10, backlog=0, used=400)) == 2
    assert wanted(RULE, seen(10, backlog=0, used=400)) == 15


def test_it_goes_up_at_once_but_at_most_doubles() -> None:
    assert Scaler(RULE).decide(0.0, seen(10, backlog=1_000)) == 20
    assert Scaler(RULE).decide(0.0, seen(1, backlog=1_000)) == 3


def test_it_goes_down_only_when_nothing_has_wished_for_more_for_five_minutes() -> None:
    scaler = Scaler(RULE)
    assert scaler.decide(0.0, seen(10, used=280)) == 10
    assert scaler.decide(150.0, seen(10, used=240)) == 10
    assert scaler.decide(299.0, seen(10, used=56)) == 10
    assert scaler.decide(301.0, seen(10, used=56)) == 9
    assert scaler.decide(460.0, seen(9, used=56)) == 6


def test_it_goes_down_by_a_quarter_a_minute() -> None:
    scaler = Scaler(RULE)
    workers, at_s, path = 40, 0.0, list[int]()
    for _ in range(12):
        workers = scaler.decide(at_s, seen(workers))
        path.append(workers)
        at_s += 15.0
    assert path == [30, 30, 30, 30, 22, 22, 22, 22, 16, 16, 16, 16]


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 10_000), st.integers(0, 4_000)), min_size=1, max_size=40))
def test_it_never_leaves_its_bounds(rounds: list[tuple[int, int, int]]) -> None:
    scaler = Scaler(RULE)
    for number, (workers, backlog, used) in enumerate(rounds):
        target = scaler.decide(number * 15.0, seen(workers, backlog, used))
        assert min(RULE.least, workers + RULE.up_pods) <= target <= max(RULE.most, workers)

"""The worker's limits to a provider, in virtual time: an hour of waiting takes no time here."""

import asyncio
import itertools
import selectors
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_session.models.limiter import RAMP_GAP_S, Limiter, TooLong, limiter_of

QUIET: Callable[[str], None] = lambda text: None  # noqa: E731


class VirtualTime(selectors.SelectSelector):
    """A loop that waits with this selector jumps to the next timer instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now += timeout or 0.0
        return super().select(0 if timeout else timeout)


def in_virtual_time(story: Callable[[Callable[[], float]], Awaitable[None]]) -> None:
    """Run the story, which gets the clock."""
    time = VirtualTime()

    def loop_of() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop(time)
        loop.time = lambda: time.now  # type: ignore[method-assign]
        return loop

    async def main() -> None:
        await story(lambda: time.now)

    with asyncio.Runner(loop_factory=loop_of) as runner:
        runner.run(main())


@settings(max_examples=40, deadline=None)
@given(
    requests=st.integers(0, 6),
    tokens=st.integers(0, 500),
    asked=st.lists(st.tuples(st.floats(0, 90), st.integers(1, 200)), min_size=1, max_size=40),
)
def test_no_minute_ever_holds_more_than_the_limits_and_nobody_overtakes(
    requests: int, tokens: int, asked: list[tuple[float, int]]
) -> None:
    """Each entry: when a session asks, and for how many tokens. A size over the limit counts as the limit."""
    started: list[tuple[float, int, int]] = []
    arrivals = sorted(asked)

    async def story(clock: Callable[[], float]) -> None:
        limiter = Limiter(requests, tokens, clock=clock)

        async def session(number: int, at: float, size: int) -> None:
            await asyncio.sleep(at)
            await limiter.admit(size, QUIET, longest_s=10**6)
            started.append((clock(), number, size))

        await asyncio.gather(*(session(number, at, size) for number, (at, size) in enumerate(arrivals)))

    in_virtual_time(story)
    at_once = {at for at, _ in arrivals if [when for when, _ in arrivals].count(at) > 1}
    order = [number for _, number, _ in started if arrivals[number][0] not in at_once]
    assert order == sorted(order)
    assert len(started) == len(asked)
    for begin, _, _ in started:
        minute = [(at, size) for at, _, size in started if begin <= at < begin + 59.999]
        assert not requests or len(minute) <= requests
        assert not tokens or sum(min(size, tokens) for _, size in minute) <= tokens


def test_a_settled_request_gives_back_what_it_did_not_use() -> None:
    async def story(clock: Callable[[], float]) -> None:
        limiter = Limiter(tokens=1_000, clock=clock)
        first = await limiter.admit(900, QUIET)
        second = asyncio.create_task(limiter.admit(500, QUIET))
        await asyncio.sleep(5)
        assert not second.done()
        limiter.settle(first, 100)
        await second
        assert clock() == 5

    in_virtual_time(story)


def test_who_waits_is_told_how_long_and_who_does_not_hears_nothing() -> None:
    async def story(clock: Callable[[], float]) -> None:
        told: list[str] = []
        limiter = Limiter(requests=1, clock=clock)
        await limiter.admit(1, told.append)
        assert told == []
        await asyncio.sleep(52)
        await limiter.admit(1, told.append)
        assert told == ["waiting for the provider's limit, 8 s"]
        assert clock() == 60

    in_virtual_time(story)


def test_a_wait_that_is_too_long_is_refused_at_once() -> None:
    async def story(clock: Callable[[], float]) -> None:
        limiter = Limiter(requests=1, clock=clock)
        await limiter.admit(1, QUIET)
        waiting = asyncio.create_task(limiter.admit(1, QUIET))
        await asyncio.sleep(0)
        with pytest.raises(TooLong) as refused:
            await limiter.admit(1, QUIET)
        assert clock() == 0
        assert refused.value.wait_s == 120
        await waiting

    in_virtual_time(story)


def test_a_cancelled_wait_leaves_its_place_to_the_next() -> None:
    async def story(clock: Callable[[], float]) -> None:
        limiter = Limiter(requests=1, clock=clock)
        await limiter.admit(1, QUIET)
        head, second, third = (asyncio.create_task(limiter.admit(1, QUIET, longest_s=1_000)) for _ in range(3))
        await asyncio.sleep(1)
        second.cancel()
        head.cancel()
        await third
        assert clock() == 60
        assert head.cancelled()
        assert second.cancelled()

    in_virtual_time(story)


def test_a_pause_holds_every_session_and_then_lets_them_through_one_after_another() -> None:
    async def story(clock: Callable[[], float]) -> None:
        limiter = Limiter(clock=clock)
        await limiter.admit(1, QUIET)
        limiter.pause(20)
        started: list[float] = []

        async def session() -> None:
            await limiter.admit(1, QUIET)
            started.append(clock())

        await asyncio.gather(*(session() for _ in range(30)))
        assert started[0] == 20
        gaps = [later - earlier for earlier, later in itertools.pairwise(started)]
        assert min(gaps) >= RAMP_GAP_S * 0.99
        assert started[-1] < 24

    in_virtual_time(story)


def test_a_pause_that_comes_while_they_wait_is_told_or_ends_the_wait() -> None:
    async def story(clock: Callable[[], float]) -> None:
        told: list[str] = []
        limiter = Limiter(requests=1, clock=clock)
        await limiter.admit(1, QUIET)
        waiting = asyncio.create_task(limiter.admit(1, told.append))
        await asyncio.sleep(30)
        limiter.pause(45)
        await asyncio.sleep(1)
        assert told[-1] == "waiting for the provider's limit, 45 s"
        limiter.pause(200)
        with pytest.raises(TooLong) as refused:
            await waiting
        assert refused.value.wait_s == 200
        assert clock() == 31

    in_virtual_time(story)


def test_an_absurd_pause_ends_after_five_minutes() -> None:
    async def story(clock: Callable[[], float]) -> None:
        limiter = Limiter(clock=clock)
        limiter.pause(3_600)
        await limiter.admit(1, QUIET, longest_s=10**6)
        assert clock() == 300

    in_virtual_time(story)


def test_all_sessions_of_a_process_share_the_limiter_of_a_provider() -> None:
    assert limiter_of("anthropic", "", 5, 0) is limiter_of("anthropic", "", 5, 0)
    assert limiter_of("anthropic", "", 5, 0) is not limiter_of("openai", "", 5, 0)

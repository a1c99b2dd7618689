"""What must go on living is started again however it ends, not in a hot loop, and ends when it is told to."""

import asyncio

from agent_session.ops.keeping import LONGEST_PAUSE_S, keep, next_pause


async def test_whatever_ends_a_life_there_is_another_until_it_is_cancelled() -> None:
    begun, deaths, lives = asyncio.Event(), list[int](), 0

    async def live() -> int:
        nonlocal lives
        lives += 1
        if lives == 1:
            raise OSError("no such file")
        if lives == 2:
            raise asyncio.CancelledError  # a library's own task was cancelled, we were not
        if lives == 3:
            return 2
        begun.set()
        await asyncio.Event().wait()
        return 0

    keeping = asyncio.create_task(keep("it", live, died=lambda: deaths.append(lives)))
    await asyncio.wait_for(begun.wait(), 20)
    keeping.cancel()
    await asyncio.wait({keeping}, timeout=5)
    assert keeping.cancelled()
    assert deaths == [1, 2, 3]


def test_it_waits_longer_and_longer_while_lives_are_short_and_not_at_all_after_a_long_one() -> None:
    pauses = [0.0]
    for _ in range(8):
        pauses.append(next_pause(pauses[-1], 0.1))
    assert pauses[1:] == [0.25, 0.5, 1.0, 2.0, 4.0, LONGEST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert next_pause(pauses[-1], 60) == 0.0

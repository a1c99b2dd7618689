"""What every live bus promises."""

import asyncio
import random
from typing import Any

from agent_session.live.bus import LiveBus, live_bus
from agent_session.live.events import (
    APPROVAL,
    DELTA,
    RETRY,
    STEP,
    TOOL_OUTPUT,
    TURN_ENDED,
    TURN_STARTED,
    LiveEvent,
)
from agent_session.settings import Settings
from tests.live.support import Watching, delta, is_kind, publishing, text_of

LAST = "the last"


def say(bus: LiveBus, session: str, kind: str, **more: Any) -> None:
    bus.publish(LiveEvent(session=session, kind=kind, turn=more.pop("turn", "t-1"), step=more.pop("step", 1), **more))


async def test_watchers_see_all_of_their_session_in_order_and_nothing_of_others(settings: Settings) -> None:
    async with publishing(settings) as bus:
        watching = [Watching(live_bus(settings), key, is_kind(TURN_ENDED)) for key in ("a", "a", "a/b", "ä ö")]
        for one in watching:
            await one.ready()
        for number in range(300):
            for key in ("a", "a/b", "ä ö", "nobody"):
                bus.publish(delta(key, f"{key}{number};"))
        for key in ("a", "a/b", "ä ö"):
            say(bus, key, TURN_ENDED, text="done")
        first, second, below, other = [await one.end() for one in watching]
    assert first == second
    assert [event.text for event in first] == [*(f"a{number};" for number in range(300)), "done"]
    assert text_of(below) == "".join(f"a/b{number};" for number in range(300))
    assert text_of(other) == "".join(f"ä ö{number};" for number in range(300))


async def test_who_comes_in_mid_turn_sees_what_the_turn_has_shown_so_far(settings: Settings) -> None:
    async with publishing(settings) as bus:
        here = await Watching(bus, "s", is_kind(TURN_ENDED)).ready()
        say(bus, "s", STEP, turn="t-0")
        say(bus, "s", TURN_STARTED, text="hello", call="m1")
        say(bus, "s", STEP)
        say(bus, "s", DELTA, text="thrown away")
        say(bus, "s", RETRY, text="again")
        say(bus, "s", STEP)
        for piece in ("one ", "two ", "three"):
            say(bus, "s", DELTA, text=piece)
        say(bus, "s", APPROVAL, tool="shell", call="c1", note="why")
        late = Watching(bus, "s", is_kind(TURN_ENDED), replay=True)
        await here.saw(lambda seen: seen[-1].kind == APPROVAL)
        later = Watching(bus, "s", is_kind(TURN_ENDED), replay=True)
        await late.ready()
        await later.ready()
        say(bus, "s", TURN_ENDED, outcome="answered", text="one two three")
        seen = [(event.kind, event.text) for event in await later.end()]
        await late.end()
    assert seen == [
        (TURN_STARTED, "hello"),
        (STEP, ""),
        (RETRY, "again"),
        (DELTA, "one two three"),
        (APPROVAL, ""),
        (TURN_ENDED, "one two three"),
    ]


async def test_a_turn_that_has_ended_is_not_shown_again(settings: Settings) -> None:
    async with publishing(settings) as bus:
        here = await Watching(bus, "s", is_kind(TURN_ENDED)).ready()
        say(bus, "s", STEP)
        say(bus, "s", DELTA, text="before")
        say(bus, "s", TURN_ENDED, text="before")
        await here.end()
        late = await Watching(bus, "s", is_kind(TURN_ENDED), replay=True).ready()
        say(bus, "s", STEP, turn="t-2")
        say(bus, "s", TURN_ENDED, turn="t-2", text="after")
        seen = await late.end()
    assert [(event.kind, event.turn) for event in seen] == [(STEP, "t-2"), (TURN_ENDED, "t-2")]


async def test_whoever_comes_at_whatever_moment_misses_nothing_and_sees_nothing_twice(settings: Settings) -> None:
    """Replay and what comes after it join without a seam."""
    async with publishing(settings) as bus:
        here = await Watching(bus, "s", is_kind(TURN_ENDED)).ready()
        say(bus, "s", STEP)
        watching: list[Watching] = []
        pieces = [f"{number}," for number in range(3_000)]
        for number, piece in enumerate(pieces):
            bus.publish(delta("s", piece))
            if number % 60 == 0:
                watching.append(Watching(live_bus(settings), "s", is_kind(TURN_ENDED), replay=True))
            if number % 200 == 0:  # no quicker than a watcher takes it
                await here.saw(lambda seen: len(seen) > number)  # noqa: B023
            elif random.random() < 0.3:
                await asyncio.sleep(0)
        for one in watching:
            await one.ready()
        say(bus, "s", TURN_ENDED)
        texts = [text_of(await one.end()) for one in watching]
    assert len(texts) == 50
    assert set(texts) == {"".join(pieces)}


async def test_output_of_tools_that_run_at_once_is_kept_apart(settings: Settings) -> None:
    async with publishing(settings) as one, publishing(settings) as other:
        here = await Watching(one, "s", is_kind(LAST)).ready()
        say(one, "s", STEP)
        for number in range(200):
            say(one, "s", TOOL_OUTPUT, call="c-1", text=f"{number} ")
            say(other, "s", TOOL_OUTPUT, call="c-2", text=f"{number} ")
        for number in range(2):
            say((one, other)[number], "s", "mark", call=str(number))
        await here.saw(lambda seen: sum(event.kind == "mark" for event in seen) == 2)
        late = await Watching(live_bus(settings), "s", is_kind(LAST), replay=True).ready()
        say(one, "s", LAST)
        for seen in (await here.end(), await late.end()):
            for call in ("c-1", "c-2"):
                found = "".join(event.text for event in seen if event.call == call)
                assert found == "".join(f"{number} " for number in range(200))


async def test_text_that_is_cut_within_a_character_harms_nobody(settings: Settings) -> None:
    async with publishing(settings) as bus:
        here = await Watching(bus, "s", is_kind(TURN_ENDED)).ready()
        bus.publish(delta("s", "half a pair \ud83d"))
        say(bus, "s", TURN_ENDED)
        assert text_of(await here.end()) == "half a pair ?"


async def test_a_watcher_that_leaves_is_forgotten_and_may_come_again(settings: Settings) -> None:
    async with publishing(settings) as bus:
        for number in range(30):
            here = Watching(live_bus(settings), "s", is_kind(LAST))
            gone = Watching(live_bus(settings), "s", is_kind(LAST))
            gone._task.cancel()
            await here.ready()
            say(bus, "s", LAST, text=str(number))
            assert [event.text for event in await here.end()] == [str(number)]

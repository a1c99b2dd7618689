"""What every channel promises. `check_found(name, settings)`: as the system meets it, also when nothing is set up;
`check_channel(channel, …)` posts a few replies through it; `check_source(channel, client)` runs it and stops it."""

import asyncio
import inspect
from collections.abc import Callable, Sequence

import pytest

from agent_session.client import SessionClient
from agent_session.domain.outbound import Outbound
from agent_session.settings import Settings
from channels import load_channel, missing
from channels.base import Capabilities, Channel

STOPS_S = 5.0


async def check_found(name: str, settings: Settings) -> Channel:
    """Found by its name with whatever settings there are: what is not configured is there, and says what it lacks
    in one line, also when it is tried."""
    channel = load_channel(name, settings)
    assert channel.name == name, "it goes by the name of its file, or of its entry point"
    lacking = missing(name, settings)
    assert isinstance(lacking, str)
    assert len(lacking.splitlines()) <= 1, "one line: it is shown in a list"
    said = await channel.probe()
    assert isinstance(said, str)
    assert said or not lacking, "what is not configured cannot have been tried"
    return channel


async def check_channel(
    channel: Channel,
    *,
    place: str,
    bad_places: Sequence[str] = (),
    posted: Callable[[], Sequence[str]] = lambda: (),
) -> None:
    """Its name and its self-test; then, when it delivers: each reply once, however often it is handed over,
    and never to a place that is none. `posted` looks up what stands at `place`."""
    assert channel.name.isidentifier(), "the name is the first part of its addresses, `<name>:<place>`"
    assert isinstance(channel.capabilities, Capabilities)
    assert inspect.iscoroutinefunction(channel.run)
    assert isinstance(await channel.probe(), str)
    if not channel.capabilities.delivers:
        return
    assert await channel.probe() == "", "this check needs a channel that works"
    channel.check_place(place)
    before = list(posted())
    for reply, text in (("c-1", "one"), ("c-1", "one"), ("c-2", "two\nlines"), ("c-1", "one"), ("c-2", "two\nlines")):
        await channel.deliver(Outbound(session="main", place=place, reply=reply, text=text))
    assert sorted(posted()) == sorted([*before, "one", "two\nlines"]), "look the reply's id up before posting"
    for bad in bad_places:
        with pytest.raises(ValueError, match=r".+"):
            channel.check_place(bad)
        with pytest.raises(ValueError, match=r".+"):
            await channel.deliver(Outbound(session="main", place=bad, reply="c-3", text="three"))


async def check_source(channel: Channel, client: SessionClient, listens_s: float = 0.5) -> None:
    """It listens until it is cancelled, then ends soon, and can be run again: its process does so after a fault."""
    assert channel.capabilities.receives, "only a source is run"
    for _ in range(2):
        running = asyncio.create_task(channel.run(client))
        await asyncio.wait({running}, timeout=listens_s)
        assert not running.done() or running.exception() is None, "this check needs a source that works"
        running.cancel()
        _, still_running = await asyncio.wait({running}, timeout=STOPS_S)
        assert not still_running, "a cancel ends it: what it does last must be quick"

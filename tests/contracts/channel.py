"""What every channel promises: `check_channel(channel, …)` posts a few replies through it."""

import inspect
from collections.abc import Callable, Sequence

import pytest

from agent_session.domain.outbound import Outbound
from channels.base import Capabilities, Channel


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

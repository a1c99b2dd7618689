"""Neither the password nor anybody's words are where they should not be."""

import asyncio
import logging
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import structlog

from agent_session.live.bus import live_bus
from agent_session.live.events import DELTA, STEP, TURN_ENDED, LiveEvent
from agent_session.live.redis_names import FAMILY, names_of
from agent_session.live.redis_script import KEPT_BYTES, KEPT_S
from agent_session.settings import BadSettings, Settings
from agent_session.transcript.volume import Volume
from tests.live.support import (
    ESCAPED,
    PASSWORD,
    RedisServer,
    Watching,
    delta,
    is_kind,
    publishing,
    running_redis,
    settings_of,
)

LIVE_MD = Path(__file__).parents[2] / "docs" / "live.md"


async def test_the_words_of_a_turn_are_gone_with_its_end_and_are_never_kept_for_long(
    redis: RedisServer, over_redis: Settings
) -> None:
    async with publishing(over_redis) as bus:
        watching = await Watching(bus, "main", is_kind(TURN_ENDED)).ready()
        bus.publish(LiveEvent(session="main", kind=STEP, turn="t-1", step=1))
        bus.publish(delta("main", "canary words"))
        await watching.saw(lambda seen: len(seen) == 2)
        (key,) = await redis.ask("KEYS", "*")
        assert key.decode() == names_of(over_redis).of("main")
        assert key.decode().startswith(FAMILY)
        assert b"main" not in key.replace(FAMILY.encode(), b"")
        assert 0 < await redis.ask("PTTL", key) <= KEPT_S * 1000
        assert "canary words" in str(await redis.ask("XRANGE", key, "-", "+"))
        bus.publish(LiveEvent(session="main", kind=TURN_ENDED, turn="t-1", text="canary words"))
        await watching.end()
        assert "canary" not in str(await redis.ask("XRANGE", key, "-", "+"))
        assert 0 < await redis.ask("PTTL", key) <= KEPT_S * 1000
        assert await redis.ask("KEYS", "*") == [key]


async def test_what_is_kept_of_a_turn_is_bounded(redis: RedisServer, over_redis: Settings) -> None:
    async with publishing(over_redis) as bus:
        watching = await Watching(bus, "s", is_kind(TURN_ENDED)).ready()
        for number in range(400):
            bus.publish(LiveEvent(session="s", kind="tool_output", turn="t-1", call=str(number), text="x" * 16_000))
            await watching.saw(lambda seen: len(seen) > number)  # noqa: B023
        key = names_of(over_redis).of("s")
        entries = await redis.ask("XRANGE", key, "-", "+")
        used = await redis.ask("MEMORY", "USAGE", key)
        bus.publish(delta("s", "y" * KEPT_BYTES * 2))
        await watching.saw(lambda seen: seen[-1].kind == DELTA)
        assert await redis.ask("XLEN", key) == 1
    kept = [len(fields[3]) for _, fields in entries]
    assert KEPT_BYTES / 3 < sum(kept) <= KEPT_BYTES
    assert used < 2 * KEPT_BYTES
    assert b'"call":"399"' in entries[-1][1][3]


async def test_two_volumes_on_one_redis_hear_nothing_of_each_other(redis: RedisServer, tmp_path: Path) -> None:
    places = [tmp_path / "one", tmp_path / "two"]
    for place in places:
        Volume(place).create()
    one, two = (settings_of(place, redis.url) for place in places)
    other_queue = settings_of(places[0], redis.url, task_queue="other")
    async with publishing(one) as bus, publishing(two) as other, publishing(other_queue) as third:
        watching = await Watching(live_bus(one), "main", is_kind(TURN_ENDED)).ready()
        foreign = [await Watching(live_bus(each), "main", is_kind(TURN_ENDED)).ready() for each in (two, other_queue)]
        bus.publish(delta("main", "private"))
        bus.publish(LiveEvent(session="main", kind=TURN_ENDED, text="one"))
        other.publish(LiveEvent(session="main", kind=TURN_ENDED, text="two"))
        third.publish(LiveEvent(session="main", kind=TURN_ENDED, text="third"))
        assert [event.text for event in await watching.end()] == ["private", "one"]
        assert [[event.text for event in await each.end()] for each in foreign] == [["two"], ["third"]]


async def test_the_rights_that_the_docs_name_are_enough(redis: RedisServer, data: Path) -> None:
    (command,) = [line.split() for line in LIVE_MD.read_text().splitlines() if line.startswith("    ACL SETUSER agent")]
    await redis.ask(*(f">{PASSWORD}" if word == ">PASSWORD" else word for word in command))
    settings = settings_of(data, redis.url.replace("redis://:", "redis://agent:"))
    async with publishing(settings) as bus:
        bus.publish(LiveEvent(session="s", kind=STEP, turn="t-1"))
        bus.publish(delta("s", "words"))
        watching = await Watching(bus, "s", is_kind(TURN_ENDED), replay=True).ready()
        bus.publish(LiveEvent(session="s", kind=TURN_ENDED))
        assert (await watching.end())[-1].kind == TURN_ENDED


async def test_the_password_and_the_words_are_in_no_log_and_no_error(
    tmp_path: Path, data: Path, caplog: Any, capsys: Any
) -> None:
    """Also where Redis itself repeats what was sent: that of a command which it does not know."""
    said: list[str] = []

    async def fails(settings: Settings) -> None:
        bus = live_bus(settings)
        running = asyncio.create_task(bus.run())
        bus.publish(delta("s", "canary words"))
        try:
            with pytest.raises(OSError, match="Redis at 127") as error:
                await Watching(bus, "s", is_kind(TURN_ENDED), replay=True).end()
            said.extend(
                ("".join(traceback.format_exception(error.value)), repr(error.value), repr(bus), repr(settings))
            )
            async with asyncio.timeout(10):
                while not any(line["log_level"] == "warning" for line in logs):
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()

    with structlog.testing.capture_logs() as logs, caplog.at_level(logging.DEBUG):
        async with running_redis(tmp_path, "--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "") as server:
            await fails(settings_of(data, server.url))
            said.append(str(logs))
            logs.clear()
            await fails(settings_of(data, server.url.replace(ESCAPED, "wr0ng-password")))
            said.append(str(logs))
            logs.clear()
        await fails(settings_of(data, server.url))
        said.append(str(logs))
    text = "\n".join([*said, caplog.text, *capsys.readouterr()])
    assert "unknown command" in text
    assert "invalid username-password pair" in text
    for secret in (PASSWORD, ESCAPED, "wr0ng-password", "canary", "with args"):
        assert secret not in text


@pytest.mark.parametrize(
    "url",
    [
        "http://:sesame@localhost", "redis://:ses/ame@localhost:6379/0", "redis://:12/sesame@localhost:6379",
        "redis://:ses#ame@localhost", "redis://:sesame@localhost:port", "redis://:sesame@localhost?nonsense=1",
        "sesame", "redis://", "redis://:sesame@localhost?db=ses",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_without_showing_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(BadSettings, match=r"live\.url is no address of Redis: write") as error:
        live_bus(settings_of(tmp_path, url))
    assert (
        "ses"
        not in "".join(traceback.format_exception(error.value))
        .replace("agent_session", "")
        .replace("/test_redis_secrets.py", "")
        .partition("BadSettings:")[2]
    )


def test_a_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(BadSettings, match=r"pip install 'agent-session\[redis\]'"):
        live_bus(settings_of(tmp_path, "redis://no-package:6379"))

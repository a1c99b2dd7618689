"""The agent's schedules: of its own session, allowed by a person, made once, with nobody's rights."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from agent_session.domain.schedules import BadSchedule, Wanted
from agent_session.scheduled.schedules import Schedules
from agent_session.scheduled.schedules_agent import AgentSchedules
from agent_session.tools import ToolError
from agent_session.tools.schedule import schedule
from agent_session.transcript.volume import VolumeUnavailable
from tests.contracts.tool import check_call, check_tool
from tests.support import Service, check_transcript, fresh_key

WAITING = "waiting approval"


def call(**arguments: str) -> str:
    return f"call schedule {json.dumps(arguments)}"


async def waiting(service: Service, key: str) -> dict[str, str]:
    (asked,) = service.client.waiting_calls(key, await service.until(key, lambda s: s.state == WAITING))
    return asked


async def allowed(service: Service, key: str, words: str) -> str:
    """Say it, allow the one call that asks, and return what came of it."""
    receipt = await service.client.send(key, words)
    asked = await waiting(service, key)
    await service.client.resolve(key, asked["call"], asked["digest"], "allow")
    return (await service.client.await_reply(key, receipt.id, timeout_s=30)).text


async def test_it_keeps_the_contract_of_a_tool(tmp_path: Any) -> None:
    check_tool(schedule)
    with pytest.raises(ToolError, match="keeps no schedules"):
        await check_call(schedule, tmp_path, action="list")


async def test_making_one_asks_a_person_and_then_it_is_there_and_speaks(service: Service) -> None:
    key = fresh_key()
    schedules = Schedules(service.temporal, service.settings)
    receipt = await service.client.send(
        key, call(action="add", text="remember the milk", cron="0 9 * * *", name="milk")
    )
    asked = await waiting(service, key)
    assert "makes a schedule" in asked["why"]
    assert "remember the milk" in asked["args"]
    assert asked["pattern"] == "", "each one is asked about"
    assert await schedules.listed(key) == []
    await service.client.resolve(key, asked["call"], asked["digest"], "allow")
    assert "Made: milk" in (await service.client.await_reply(key, receipt.id, timeout_s=30)).text
    (made,) = await schedules.listed(key)
    assert (made.session, made.text, made.made_by, made.isolated) == (key, "remember the milk", "agent", False)
    await schedules.run(key, "milk")
    async with asyncio.timeout(30):
        while "remember the milk" not in service.said(key):
            await asyncio.sleep(0.05)
    (line,) = [one for one in service.lines(key) if one.get("kind") == "schedule"]
    assert line["principal"] == f"schedule:{key}"


async def test_one_that_is_not_allowed_is_not_made(service: Service) -> None:
    key = fresh_key()
    await service.client.send(key, call(action="add", text="x", every="1h"), id="a")
    asked = await waiting(service, key)
    await service.client.resolve(key, asked["call"], asked["digest"], "deny")
    await service.client.await_reply(key, "a", timeout_s=30)
    assert await Schedules(service.temporal, service.settings).listed(key) == []


async def test_looking_asks_nobody_and_shows_its_own_session_alone(service: Service) -> None:
    key, other = fresh_key(), fresh_key()
    schedules = Schedules(service.temporal, service.settings)
    await schedules.add(key, Wanted(text="mine", every="1h", name="mine"))
    await schedules.add(other, Wanted(text="theirs", every="1h", name="theirs"))
    told = (await service.ask(key, call(action="list"))).text
    assert "mine" in told
    assert "theirs" not in told
    assert re.match(r"It is \d{4}-\d\d-\d\d \d\d:\d\d", told), "a model does not know what time it is"
    assert "no schedules" in (await service.ask(fresh_key(), call(action="list"))).text


async def test_removing_one_asks_and_reaches_no_other_session(service: Service) -> None:
    key, other = fresh_key(), fresh_key()
    schedules = Schedules(service.temporal, service.settings)
    await schedules.add(key, Wanted(text="mine", every="1h", name="mine"))
    await schedules.add(other, Wanted(text="theirs", every="1h", name="theirs"))
    for name in ("theirs", f"../{other}/theirs", f"{other}/theirs"):
        assert "no schedule" in await allowed(service, key, call(action="remove", name=name))
    assert "Removed: mine" in await allowed(service, key, call(action="remove", name="mine"))
    assert await schedules.listed(key) == []
    assert [one.name for one in await schedules.listed(other)] == ["theirs"]


@pytest.mark.parametrize(("arguments", "words"), [
    ({"text": "x"}, "in one way"),
    ({"text": "x", "every": "9s"}, "at least 10 s"),
    ({"text": "x", "cron": "0 25 * * *"}, "the hour '25'"),
    ({"text": " ", "every": "1h"}, "no words"),
    ({"text": "x", "after": "1h", "target": "nosuch:x"}, "no channel 'nosuch'"),
    ({"text": "x", "after": "1h", "target": "file:a/b"}, "'a/b' is no file name"),
])  # fmt: skip
async def test_what_cannot_be_made_is_told_to_the_model(
    service: Service, arguments: dict[str, str], words: str
) -> None:
    key = fresh_key()
    assert words in await allowed(service, key, call(action="add", **arguments))
    assert await Schedules(service.temporal, service.settings).listed(key) == []


async def test_a_call_that_is_made_again_makes_one_schedule(service: Service) -> None:
    """Its worker was lost after it had made one, with and without Temporal's part of it."""
    assert service.services is not None
    key = fresh_key()
    wanted = Wanted(text="x", within="1h")
    for attempt in range(3):
        made = await AgentSchedules(service.temporal, service.services, key, "t-1-0").add(wanted)
        if attempt == 1:
            await service.temporal.get_schedule_handle(f"schedule/{key}/{made.name}").delete()
    (one,) = await Schedules(service.temporal, service.settings).listed(key)
    assert (one.state, one.next_s) == ("active", made.next_s)
    await AgentSchedules(service.temporal, service.services, key, "t-1-1").add(wanted)
    assert len(await Schedules(service.temporal, service.settings).listed(key)) == 2
    taken = Wanted(text="x", within="1h", name=one.name)
    with pytest.raises(BadSchedule, match="already"):
        await AgentSchedules(service.temporal, service.services, key, "t-1-2").add(taken)


async def test_an_attempt_that_fails_between_making_and_saying_so_makes_one(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, failed = AgentSchedules.add, 0

    async def fail_once(self: AgentSchedules, wanted: Wanted) -> Any:
        nonlocal failed
        made = await add(self, wanted)
        if not failed:
            failed += 1
            raise VolumeUnavailable
        return made

    monkeypatch.setattr(AgentSchedules, "add", fail_once)
    key = fresh_key()
    told = await allowed(service, key, call(action="add", text="x", every="1h"))
    assert len(await Schedules(service.temporal, service.settings).listed(key)) == 1, told
    check_transcript(service.lines(key))


async def test_a_schedule_of_the_agent_cannot_make_another_unasked(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    async with service.worker():
        key = fresh_key()
        schedules = Schedules(service.temporal, service.settings)
        await schedules.add(key, Wanted(text=call(action="add", text="again", every="1h"), cron="@yearly", name="seed"))
        await schedules.run(key, "seed")
        async with asyncio.timeout(30):
            while not service.lines(key):
                await asyncio.sleep(0.05)
        assert "makes a schedule" in (await waiting(service, key))["why"]
        assert len(await schedules.listed(key)) == 1

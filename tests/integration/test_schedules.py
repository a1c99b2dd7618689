"""Schedules on a real Temporal: each kind comes, is answered in its session, once, and with nobody's rights."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from structlog.testing import capture_logs
from temporalio.client import Client, WorkflowFailureError, WorkflowHistory
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import ActivityEnvironment

from agent_session.client import SessionClient
from agent_session.domain.cards import code_of
from agent_session.domain.schedules import BadSchedule, NoSuchSchedule, Shown, Wanted, When, schedule_id
from agent_session.scheduled.schedules import Schedules
from agent_session.scheduled.schedules_cron import time_name
from agent_session.scheduled.schedules_send import ScheduleActivity
from agent_session.scheduled.schedules_temporal import WORKFLOW
from tests.remote.support import at_the_service
from tests.support import Service, check_transcript, decoded, fresh_key

SECRET_WORDS = "the words of a schedule"


@pytest.fixture
def schedules(service: Service) -> Schedules:
    return Schedules(service.temporal, service.settings)


def wanted(text: str = SECRET_WORDS, **how: Any) -> Wanted:
    return Wanted(**{"text": text, "cron": "0 0 1 1 *"} | ({**how, "cron": ""} if set(how) & TIMES else how))


TIMES = {"at", "within", "every"}


async def until(what: Callable[[], Any], timeout_s: float = 30) -> Any:
    async with asyncio.timeout(timeout_s):
        while not (found := what()):
            await asyncio.sleep(0.05)
    return found


async def until_said(service: Service, key: str, times: int = 1) -> list[str]:
    await until(lambda: len(service.said(key)) >= times)
    await service.until(key, lambda status: status.state == "idle")
    return service.said(key)


async def until_gone(schedules: Schedules, key: str) -> None:
    async with asyncio.timeout(30):
        while await schedules.listed(key):
            await asyncio.sleep(0.05)


async def until_forgotten(service: Service, key: str, name: str) -> None:
    """Without asking for a list: that would sweep it."""
    path = service.volume.path_of(key) / "schedules" / f"{name}.json"
    async with asyncio.timeout(30):
        while path.exists():
            await asyncio.sleep(0.05)
    assert not await in_temporal(service.temporal, key, name)


async def in_temporal(client: Client, key: str, name: str) -> bool:
    handle = client.get_schedule_handle(schedule_id(key, name))
    try:
        await handle.describe()
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def occurrences(client: Client, key: str, name: str) -> list[Any]:
    """The workflows that the schedule has started; visibility is asked until it shows one."""
    query = f"WorkflowType = '{WORKFLOW}' AND TemporalScheduledById = '{schedule_id(key, name)}'"
    async with asyncio.timeout(30):
        while not (found := [one async for one in client.list_workflows(query)]):
            await asyncio.sleep(0.1)
    return found


async def history_of(client: Client, found: Any) -> WorkflowHistory:
    return await client.get_workflow_handle(found.id, run_id=found.run_id).fetch_history()


async def test_a_one_shot_comes_is_answered_and_leaves_nothing_behind(service: Service, schedules: Schedules) -> None:
    key = fresh_key()
    made = await schedules.add(key, wanted("remember the milk", within="3s", name="milk"))
    assert (made.state, len(made.next_s)) == ("active", 1)
    assert await until_said(service, key) == ["remember the milk"], "the session is started for it"
    await until_forgotten(service, key, "milk")
    line = service.lines(key)[0]
    assert (line["kind"], line["principal"], line["sender"]) == ("schedule", f"schedule:{key}", "schedule milk")
    assert any("I will remember: the milk" in str(one.get("content")) for one in service.lines(key))
    check_transcript(service.lines(key))


async def test_a_time_of_day_comes_at_that_time(service: Service, schedules: Schedules) -> None:
    key = fresh_key()
    zone = ZoneInfo("Asia/Tokyo")
    due = int(datetime.now(UTC).timestamp()) + 4
    at = datetime.fromtimestamp(due, zone).replace(tzinfo=None).isoformat()
    made = await schedules.add(key, wanted(at=at, time_zone="Asia/Tokyo"))
    assert made.next_s == (due,)
    await until_said(service, key)
    assert datetime.now(UTC).timestamp() >= due


async def test_an_interval_comes_again_and_again_counted_from_now_until_it_is_removed(
    service: Service, schedules: Schedules
) -> None:
    key = fresh_key()
    before = int(datetime.now(UTC).timestamp())
    made = await schedules.add(key, wanted("tick", every="2s", name="tick"))
    assert [time - made.next_s[0] for time in made.next_s[:3]] == [0, 2, 4]
    assert made.next_s[0] >= before + 2
    assert (await until_said(service, key, 2))[:2] == ["tick", "tick"]
    await schedules.remove(key, "tick")
    assert await schedules.listed(key) == []
    with pytest.raises(NoSuchSchedule, match="it has: none"):
        await schedules.remove(key, "tick")


@pytest.mark.parametrize(("zone", "months"), [
    ("Europe/Rome", "3,10"), ("Europe/London", "3,10"), ("America/New_York", "3,11"), ("Australia/Lord_Howe", "4,10"),
])  # fmt: skip
@pytest.mark.parametrize("time", ["30 0", "0 1", "30 1", "30 2", "0 3"])
async def test_a_time_of_day_is_one_time_a_day_by_the_clock_also_when_clocks_change(
    schedules: Schedules, zone: str, months: str, time: str
) -> None:
    """Sundays of the months with a change, so that both changes are among the next times. One that clocks leap over is
    left out."""
    made = await schedules.add(fresh_key(), wanted(cron=f"{time} * {months} sun", time_zone=zone))
    when = When(cron=f"{time} * {months} sun", time_zone=zone)
    minute, hour = time.split()
    named = {time_name(when, due_s) for due_s in made.next_s}
    assert all(name[10:] == f"T{int(hour):02}:{int(minute):02}:00" for name in named)
    assert len(named) == len({name[:10] for name in named})
    first, last = (datetime.fromtimestamp(made.next_s[at], ZoneInfo(zone)) for at in (0, -1))
    sundays = {
        first.date() + timedelta(days=7 * number) for number in range((last.date() - first.date()).days // 7 + 1)
    }
    missing = {day for day in sundays if str(day.month) in months.split(",")} - {
        datetime.fromisoformat(name).date() for name in named
    }
    leapt_over = [datetime(day.year, day.month, day.day, int(hour), int(minute)) for day in missing]
    assert all(exists(time, zone) is False for time in leapt_over)


def exists(wall: datetime, zone: str) -> bool:
    return wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wall


async def test_the_day_when_clocks_are_put_back_brings_one_message(service: Service, schedules: Schedules) -> None:
    """With the times that Temporal names on that day, in Europe and in America."""
    assert service.services is not None
    say = ScheduleActivity(service.services, service.temporal).say_scheduled
    for zone, times in (
        ("Europe/Rome", ("2027-10-31T01:30+02:00", "2027-10-31T02:30+02:00")),
        ("America/New_York", ("2027-11-07T01:30-04:00", "2027-11-07T01:30-05:00")),
    ):
        key = fresh_key()
        await schedules.add(key, wanted("tick", cron="30 1 * * *", time_zone=zone, name="tick"))
        given = await arguments_of(service.temporal, key, "tick")
        for time in times:
            await ActivityEnvironment().run(say, {**given, "due_s": int(datetime.fromisoformat(time).timestamp())})
        await service.ask(key, "hello")
        assert service.said(key) == ["tick", "hello"]


@pytest.mark.parametrize(
    "cron", ["0 9 * * 7", "*/5 8-18/2 1,15 jan-mar mon-fri", "@daily", "5/15 * * * 5-7", "0 0 31 * *"]
)
async def test_temporal_takes_what_we_take_for_a_cron_expression(schedules: Schedules, cron: str) -> None:
    assert len((await schedules.add(fresh_key(), wanted(cron=cron))).next_s) == 10


async def test_a_cron_expression_whose_day_never_comes_is_refused_and_not_kept(schedules: Schedules) -> None:
    key = fresh_key()
    with pytest.raises(BadSchedule, match="never comes"):
        await schedules.add(key, wanted(cron="0 0 31 2 *"))
    assert await schedules.listed(key) == []


async def test_no_words_of_a_schedule_are_in_temporal(service: Service, schedules: Schedules) -> None:
    """I2: neither in the schedule nor in what it starts."""
    key = fresh_key()
    await schedules.add(key, wanted(name="quiet"))
    described = await service.temporal.get_schedule_handle(schedule_id(key, "quiet")).describe()
    assert SECRET_WORDS not in str(described.raw_description)
    await schedules.run(key, "quiet")
    await until_said(service, key)
    (found,) = await occurrences(service.temporal, key, "quiet")
    history = await history_of(service.temporal, found)
    assert not any(SECRET_WORDS in decoded(event) for event in history.events)


async def test_it_is_said_once_when_a_worker_is_lost_before_it_sends(make_service: Callable[..., Any]) -> None:
    """Nobody is there when the time comes: the occurrence waits, the next ones are left out, none piles up."""
    service: Service = await make_service()
    schedules, key = Schedules(service.temporal, service.settings), fresh_key()
    await schedules.add(key, wanted("late", every="1s", name="late"))

    async def skipped() -> Shown:
        while (found := await schedules.show(key, "late")).skipped < 2:
            await asyncio.sleep(0.1)
        return found

    found = await asyncio.wait_for(skipped(), 30)
    assert (found.state, found.fired) == ("due", 1)
    await schedules.pause(key, "late")
    async with service.worker():
        assert await until_said(service, key) == ["late"]


async def test_an_attempt_that_lost_its_worker_after_it_sent_is_made_again_and_says_it_once(
    service: Service, schedules: Schedules, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, left = fresh_key(), 2
    forget = ScheduleActivity._forget

    async def lose_the_worker(self: Any, *given: Any) -> None:
        nonlocal left
        left -= 1
        if left:
            raise ConnectionError
        await forget(self, *given)

    monkeypatch.setattr(ScheduleActivity, "_forget", lose_the_worker)
    await schedules.add(key, wanted("once", within="1s", name="once"))
    await until_forgotten(service, key, "once")
    await service.ask(key, "hello")
    assert (left, service.said(key)) == (0, ["once", "hello"])


async def test_workers_that_are_killed_lose_no_time_and_say_none_twice(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    schedules, shell, key = Schedules(service.temporal, service.settings), at_the_service(service), fresh_key()
    await schedules.add(key, wanted("tick", every="1s", name="tick"))
    for round in range(3):
        worker = await shell.start("worker")
        least = len(service.said(key)) + 2
        await until(lambda least=least: len(service.said(key)) >= least)
        if round == 2:
            await schedules.pause(key, "tick")
            fired = (await at_rest(schedules, key, "tick")).fired
            await service.until(key, lambda status: status.state == "idle" and status.queue == 0)
        worker.kill()
        await worker.communicate()
    assert len(service.said(key)) == fired
    check_transcript(service.lines(key))


async def at_rest(schedules: Schedules, key: str, name: str) -> Shown:
    """When none of its messages is on its way."""
    async with asyncio.timeout(30):
        while (found := await schedules.show(key, name)).state == "due":
            await asyncio.sleep(0.1)
    return found


async def test_the_same_time_twice_is_one_message(service: Service, schedules: Schedules) -> None:
    key = fresh_key()
    await schedules.add(key, wanted("tick", name="tick"))
    given = await arguments_of(service.temporal, key, "tick")
    assert service.services is not None
    say = ScheduleActivity(service.services, service.temporal).say_scheduled
    for due_s in (1_000, 1_000, 1_060):
        assert await ActivityEnvironment().run(say, {**given, "due_s": due_s}) == "said"
    await service.ask(key, "hello")
    assert service.said(key) == ["tick", "tick", "hello"]


async def arguments_of(client: Client, key: str, name: str) -> dict[str, Any]:
    described = await client.get_schedule_handle(schedule_id(key, name)).describe()
    action: Any = described.schedule.action
    return orjson.loads(action.args[0].data)


async def test_who_merely_reaches_temporal_makes_it_say_nothing_of_theirs(
    service: Service, schedules: Schedules
) -> None:
    """I10: the words and the target are those that the key of the data directory signed."""
    key = fresh_key()
    await schedules.add(key, wanted("hello", name="real"))
    given = await arguments_of(service.temporal, key, "real")
    path = service.volume.path_of(key) / "schedules" / "real.json"
    path.write_bytes(path.read_bytes().replace(b"hello", b"run id"))

    async def started(more: dict[str, Any]) -> str:
        id = fresh_key("scheduled")
        queue = service.settings.task_queue
        return await service.temporal.execute_workflow(WORKFLOW, {**given, **more}, id=id, task_queue=queue)

    with pytest.raises(WorkflowFailureError) as failed:
        await started({})
    cause: Any = failed.value.cause.__cause__
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.non_retryable) == ("Forged", True)
    assert await started({"name": "invented", "text": "run id"}) == "removed"
    assert [(one.state, one.text) for one in await schedules.listed(key)] == [
        ("forged", "the definition of schedule 'real' is not signed: remove it, and make it anew")
    ]
    path.write_bytes(path.read_bytes().replace(b"run id", b"hello"))
    assert await started({"mac": "0" * 32}) == "removed", "the reference to another definition of this name"
    assert service.lines(key) == []
    assert await started({}) == "said"


async def test_what_it_says_decides_on_nothing_and_asks_like_anybody(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service(tools={"ask": ["shell"]})
    schedules, key = Schedules(service.temporal, service.settings), fresh_key()
    async with service.worker():
        await service.client.send(key, "run touch by-a-person", id="a")
        status = await service.until(key, lambda s: s.state == "waiting approval")
        (call,) = service.client.waiting_calls(key, status)
        await schedules.add(key, wanted(f"/allow {code_of(call)}", name="allow"))
        await schedules.run(key, "allow")
        await service.until(key, lambda s: s.state == "waiting approval" and s.queue == 1)
        await service.client.resolve(key, call["call"], call["digest"], "deny")
        await until_said(service, key, 2)
        await schedules.add(key, wanted("run touch by-a-schedule", name="act"))
        await schedules.run(key, "act")
        status = await service.until(key, lambda s: s.state == "waiting approval")
        (call,) = service.client.waiting_calls(key, status)
        assert "by-a-schedule" in call["args"]
    assert not list((service.volume.path_of(key) / "workspace").glob("by-*"))


COMMANDS = ("/stop", "/new", "/model offline", "/approve x", "/status")


async def test_a_command_that_a_schedule_says_is_words_like_any_other(service: Service, schedules: Schedules) -> None:
    """Commands are for people: nothing is stopped, begun anew or chosen."""
    key = fresh_key()
    await service.client.send(key, "sleep 60", id="long")
    await service.until(key, lambda status: status.state == "running")
    for number, words in enumerate(COMMANDS):
        await schedules.add(key, wanted(words, name=f"n{number}"))
        await schedules.run(key, f"n{number}")
    status = await service.until(key, lambda status: status.queue == len(COMMANDS))
    assert status.state == "running"
    await service.client.cancel(key)
    said = await until_said(service, key, 1 + len(COMMANDS))
    assert set(said) == {"sleep 60", *COMMANDS}
    assert not [line for line in service.lines(key) if line.get("event") in ("new", "model")]


@pytest.mark.parametrize("channel", ["schedule", "heartbeat"])
async def test_a_command_of_theirs_is_refused_also_when_it_comes_as_a_persons(service: Service, channel: str) -> None:
    """The kind of a message is not signed, and an older workflow reads a new one as a person's."""
    key = fresh_key()
    await service.client.send(key, "sleep 60", id="long")
    await service.until(key, lambda status: status.state == "running")
    nobody = SessionClient(service.temporal, service.settings, channel=channel, principal=f"{channel}:{key}")
    nobody.grants = ()
    with capture_logs() as logs:
        for words in COMMANDS:
            assert "only a person" in (await nobody.ask(key, words, timeout_s=30)).text
    refused = [one for one in logs if one["event"] == "a command that no person gave was refused"]
    assert [(one["command"], one["principal"]) for one in refused] == [
        (word, f"{channel}:{key}") for word in ("stop", "new", "model", "allow", "status")
    ]
    assert (await service.client.status(key)).state == "running"
    await service.client.cancel(key)
    assert (await service.client.await_reply(key, "long", timeout_s=30)).outcome == "cancelled"
    await service.ask(key, "remember the end")
    assert not [line for line in service.lines(key) if line.get("event") in ("new", "model")]


async def test_it_carries_no_grants(service: Service, schedules: Schedules) -> None:
    key = fresh_key()
    await schedules.add(key, wanted("hello", name="meek"))
    await schedules.run(key, "meek")
    await until_said(service, key)
    signals = [decoded(event) for event in await service.events(key) if "signal" in str(event).lower()]
    assert any(f"schedule:{key}" in signal for signal in signals)
    assert not any("grants" in signal for signal in signals)


@pytest.mark.parametrize("isolated", [False, True])
async def test_the_answer_goes_to_where_a_person_last_wrote_from(
    service: Service, schedules: Schedules, isolated: bool
) -> None:
    key, place = fresh_key(), fresh_key("place")
    await service.ask(key, "hello", reply_address="file:elsewhere")
    await service.ask(key, "hello", reply_address=f"file:{place}")
    await schedules.add(key, wanted("remember the milk", name="milk", isolated=isolated))
    await schedules.run(key, "milk")
    assert "remember: the milk" in (await until(lambda: posted(service, place, 2)))[1]


@pytest.mark.parametrize(("target", "answers"), [("none", 0), ("file:TARGET", 1)])
async def test_the_answer_goes_to_the_named_place_or_to_none(
    service: Service, schedules: Schedules, target: str, answers: int
) -> None:
    key, mine, named = fresh_key(), fresh_key("mine"), fresh_key("named")
    await service.ask(key, "hello", reply_address=f"file:{mine}")
    await schedules.add(key, wanted("tick", name="tick", target=target.replace("TARGET", named)))
    await schedules.run(key, "tick")
    await until_said(service, key, 2)
    await service.until(key, lambda status: status.deliveries == 0)
    assert (len(posted(service, mine, 1)), len(posted(service, named, answers))) == (1, answers)


def posted(service: Service, place: str, least: int) -> list[str]:
    path = service.settings.data_dir / "channels" / "file" / f"{place}.jsonl"
    lines = [orjson.loads(line)["text"] for line in path.read_bytes().splitlines()] if path.exists() else []
    return lines if len(lines) >= least else []


async def test_an_isolated_one_runs_beside_its_session_in_one_of_its_own(
    service: Service, schedules: Schedules
) -> None:
    key = fresh_key()
    await service.ask(key, "remember blue")
    await schedules.add(key, wanted("what did I say?", name="alone", isolated=True))
    await schedules.run(key, "alone")

    async def runs() -> list[str]:
        while not (found := [row for row in await service.client.sessions(all=True) if row.key.startswith(f"{key}/")]):
            await asyncio.sleep(0.1)
        return [row.key for row in found]

    (own,) = await asyncio.wait_for(runs(), 30)
    assert own.startswith(f"{key}/run/alone/")
    await until(lambda: service.lines(own) and service.lines(own)[-1].get("event") == "ended")
    assert any("You have said nothing before this" in str(line.get("content")) for line in service.lines(own))
    assert service.said(key) == ["remember blue"]


async def test_jitter_moves_each_time_later_by_chance_and_never_past_its_length(schedules: Schedules) -> None:
    made = await schedules.add(fresh_key(), wanted(cron="0 9 * * *", time_zone="UTC", jitter="30m"))
    late = [time % 86_400 - 9 * 3_600 for time in made.next_s]
    assert all(0 <= seconds <= 1_800 for seconds in late)
    assert len(set(late)) > 1


async def test_a_time_that_temporal_missed_is_made_good_for_as_long_as_is_set(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service(schedule={"catch_up_minutes": 7})
    schedules, key = Schedules(service.temporal, service.settings), fresh_key()
    for how, window in (({"every": "1h"}, timedelta(minutes=7)), ({"within": "1h"}, timedelta(days=1))):
        made = await schedules.add(key, wanted(**how))
        described = await service.temporal.get_schedule_handle(schedule_id(key, made.name)).describe()
        assert described.schedule.policy.catchup_window == window


async def test_paused_it_says_nothing_until_it_is_resumed_and_run_says_it_at_once(
    service: Service, schedules: Schedules
) -> None:
    key = fresh_key()
    await schedules.add(key, wanted("tick", name="tick"))
    assert (await schedules.pause(key, "tick")).state == "paused"
    await schedules.run(key, "tick")
    assert await until_said(service, key) == ["tick"]
    assert (await schedules.resume(key, "tick")).state == "active"
    for what in (schedules.pause, schedules.resume, schedules.run, schedules.show, schedules.remove):
        with pytest.raises(NoSuchSchedule, match="it has: tick"):
            await what(key, "nosuch")


async def test_a_one_shot_whose_time_passes_while_it_is_paused_says_so(schedules: Schedules) -> None:
    key = fresh_key()
    made = await schedules.add(key, wanted(within="4s", name="late"))
    await schedules.pause(key, "late")
    await asyncio.sleep(max(0.0, made.next_s[0] + 1 - datetime.now(UTC).timestamp()))
    with pytest.raises(BadSchedule, match="passed while it was paused"):
        await schedules.resume(key, "late")
    await schedules.remove(key, "late")


async def test_a_session_has_so_many_schedules_and_no_more(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service(schedule={"per_session": 2})
    schedules, key = Schedules(service.temporal, service.settings), fresh_key()
    outcomes = await asyncio.gather(
        *(schedules.add(key, wanted(name=f"n{number}")) for number in range(2)), return_exceptions=True
    )
    assert not any(isinstance(one, BaseException) for one in outcomes)
    with pytest.raises(BadSchedule, match="may have 2 schedules"):
        await schedules.add(key, wanted(name="n3"))
    assert [one.name for one in await schedules.listed(key)] == ["n0", "n1"]
    await schedules.add(fresh_key(), wanted(name="n3"))


async def test_a_name_is_taken_once(schedules: Schedules) -> None:
    key = fresh_key()
    await schedules.add(key, wanted("first", name="mine"))
    with pytest.raises(BadSchedule, match="already"):
        await schedules.add(key, wanted("second", name="mine"))
    (one,) = await schedules.listed(key)
    assert one.text == "first"
    assert [each.session for each in await listed_everywhere(schedules, key)] == [key]


async def listed_everywhere(schedules: Schedules, key: str) -> list[Shown]:
    async with asyncio.timeout(30):
        while not (found := [one for one in await schedules.listed() if one.session == key]):
            await asyncio.sleep(0.1)
    return found


async def test_what_a_crash_left_behind_is_said_and_mended(service: Service, schedules: Schedules) -> None:
    """A definition that Temporal does not know is `lost`; a schedule without its definition gives way to a new one."""
    key = fresh_key()
    await schedules.add(key, wanted("first", name="mine"))
    handle = service.temporal.get_schedule_handle(schedule_id(key, "mine"))
    await handle.delete()
    assert [one.state for one in await schedules.listed(key)] == ["lost"]
    with pytest.raises(BadSchedule, match="resume it to make it again"):
        await schedules.run(key, "mine")
    assert (await schedules.resume(key, "mine")).state == "active"
    await handle.delete()
    await schedules.remove(key, "mine")
    await schedules.add(key, wanted("second", name="mine"))
    (service.volume.path_of(key) / "schedules" / "mine.json").unlink()
    await schedules.run(key, "mine")
    (found,) = await occurrences(service.temporal, key, "mine")
    assert await service.temporal.get_workflow_handle(found.id, run_id=found.run_id).result() == "removed"
    await schedules.add(key, wanted("third", name="mine"))
    await schedules.run(key, "mine")
    assert await until_said(service, key) == ["third"]


async def test_a_one_shot_that_failed_is_swept(service: Service, schedules: Schedules) -> None:
    key = fresh_key()
    await schedules.add(key, wanted("hello", within="1s", name="broken"))
    path = service.volume.path_of(key) / "schedules" / "broken.json"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"hello", b"HELLO"))
    (found,) = await occurrences(service.temporal, key, "broken")
    with pytest.raises(WorkflowFailureError):
        await service.temporal.get_workflow_handle(found.id, run_id=found.run_id).result()
    path.write_bytes(whole)
    await until_gone(schedules, key)
    assert not await in_temporal(service.temporal, key, "broken")
    assert service.lines(key) == []


@pytest.mark.parametrize(("how", "words"), [
    ({"text": " "}, "no words"),
    ({"name": "Big Name"}, "no name"),
    ({"target": "nosuch:x"}, "no channel 'nosuch'"),
    ({"target": "somewhere"}, "no target"),
    ({"target": "file:a/b"}, "'a/b' is no file name"),
    ({"target": "slack:nonsense"}, "'nonsense' is no place in Slack"),
    ({"target": "cli:x"}, "channel 'cli' delivers nothing"),
    ({"every": "10s", "jitter": "10s"}, "must be shorter"),
    ({"every": "soon"}, "no time span"),
])  # fmt: skip
async def test_what_cannot_be_made_is_refused_and_leaves_nothing(
    service: Service, how: dict[str, str], words: str
) -> None:
    schedules, key = Schedules(service.temporal, service.settings), fresh_key()
    with pytest.raises(BadSchedule, match=words):
        await schedules.add(key, wanted(**how))
    assert not (service.volume.path_of(key) / "schedules").exists()


async def test_a_place_is_judged_by_its_channel_also_where_that_has_no_settings(schedules: Schedules) -> None:
    """A shell beside the service has none of Slack's tokens."""
    key = fresh_key()
    made = await schedules.add(key, wanted(name="there", target="slack:T024BE7LD/C024BE91L"))
    assert (made.state, made.target) == ("active", "slack:T024BE7LD/C024BE91L")
    await schedules.remove(key, "there")


async def test_commands_make_list_show_and_remove(service: Service, schedules: Schedules, tmp_path: Path) -> None:
    shell, key = at_the_service(service), fresh_key()
    made = await shell.run("schedule", "add", key, "stand up", "--cron", "0 9 * * 1-5", "--tz", "Europe/Rome",
                           "--name", "standup", "--target", "file:notes")  # fmt: skip
    assert (made.code, made.err) == (0, "")
    assert f"{key} · standup · active · cron 0 9 * * 1-5 (Europe/Rome) · next " in made.out
    assert (await shell.run("schedule", "add", key, "-", "--in", "2h", "--json", input="from a pipe")).code == 0
    rows = (await shell.run("schedule", "list", key, "--json")).json
    assert {(row["text"], row["target"], row["state"]) for row in rows} == {
        ("stand up", "file:notes", "active"),
        ("from a pipe", "last", "active"),
    }
    shown = (await shell.run("schedule", "show", key, "standup")).out
    assert "made by local:" in shown
    assert shown.endswith("stand up\n")
    assert "paused" in (await shell.run("schedule", "pause", key, "standup")).out
    assert "active" in (await shell.run("schedule", "resume", key, "standup")).out
    assert (await shell.run("schedule", "run", key, "standup")).code == 0
    assert await until_said(service, key) == ["stand up"]
    assert (await shell.run("schedule", "remove", key, "standup")).code == 0
    gone = await shell.run("schedule", "show", key, "standup")
    assert (gone.code, gone.out) == (3, "")
    assert "no schedule 'standup'" in gone.err


@pytest.mark.parametrize(("arguments", "words"), [
    (["hello"], "in one way"),
    (["hello", "--in", "soon"], "no time span"),
    (["hello", "--cron", "0 25 * * *"], "the hour '25'"),
    (["hello", "--at", "2020-01-01T09:00"], "has passed"),
    (["hello", "--in", "1h", "--target", "nosuch:x"], "no channel 'nosuch'"),
    (["hello", "--in", "1h", "--target", "file:a/b"], "'a/b' is no file name"),
    (["", "--in", "1h"], "no words"),
])  # fmt: skip
async def test_a_command_that_cannot_be_meant_is_refused_with_what_to_do(
    service: Service, arguments: list[str], words: str
) -> None:
    shell, key = at_the_service(service), fresh_key()
    ran = await shell.run("schedule", "add", key, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert (await shell.run("schedule", "list", key, "--json")).json == []


async def test_schedules_are_not_made_through_a_gateway(service: Service) -> None:
    shell = at_the_service(service)
    shell.environment["AGENT_SESSION_GATEWAY__URL"] = "https://example.com"
    ran = await shell.run("schedule", "list")
    assert ran.code == 2
    assert "where the service runs" in ran.err.replace("\n", " ")

"""Which version takes what: new sessions, pinned ones, a ramp, sessions from before there were versions, and what a
schedule starts. And what versions cost."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType, VersioningBehavior

from agent_session.domain.ids import workflow_id
from agent_session.domain.schedules import Wanted, schedule_id
from agent_session.ops.deploy.versions import Deployment
from agent_session.scheduled.schedules import Schedules
from agent_session.transcript.volume import MARKER
from tests.deploys.support import until_builds
from tests.deploys.test_what_is_refused import build, deployment_of, drain_of, two_builds
from tests.support import Service, fresh_key, until_true

TASK = (
    EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
)


async def build_of(service: Service, key: str) -> str:
    """As its worker says; on a busy machine it may not answer at once."""
    return str((await service.until(key, lambda status: status.build_id != "")).build_id)


async def test_a_session_moves_when_a_message_finds_it_idle_and_new_ones_start_on_the_current_build(
    make_service: Callable[..., Any],
) -> None:
    service, key, fresh = await make_service(), fresh_key(), fresh_key()
    async with two_builds(service, fresh_key("d")) as deployment:
        await service.ask(key, "remember me")
        await deployment.make_current("two", wait_s=30)
        await service.ask(fresh, "remember me")
        assert (await build_of(service, key), await build_of(service, fresh)) == ("one", "two")
        await service.ask(key, "and this")
        await until_builds(service, key, ["one", "two"])
        await until_builds(service, fresh, ["two"])


async def test_a_drain_back_brings_everybody_back(make_service: Callable[..., Any]) -> None:
    """A roll-back is the same steps with the names exchanged."""
    service, keys = await make_service(), [fresh_key() for _ in range(4)]
    async with two_builds(service, fresh_key("d")) as deployment:
        await asyncio.gather(*(service.ask(key, f"remember {key}") for key in keys))
        for old, new in (("one", "two"), ("two", "one")):
            await until_counted(deployment, old, 4)
            await deployment.make_current(new, wait_s=30)
            ended = await drain_of(deployment, old).run()
            assert (ended.moved, ended.left) == (4, ())
            assert {await build_of(service, key) for key in keys} == {new}
        for key in keys:
            assert key in (await service.ask(key, "what did I say?")).text
            await until_builds(service, key, ["one", "two", "one"])


async def until_counted(deployment: Deployment, build_id: str, sessions: int) -> None:
    """Temporal lists sessions a moment later; a drain looks for them there."""

    async def counted() -> bool:
        return (await deployment.look()).version(build_id).sessions == sessions

    await until_true(counted)


async def until_asked(service: Service, key: str) -> None:
    """The session's run has been told to roll over."""

    async def told() -> bool:
        return any(
            event.workflow_execution_signaled_event_attributes.signal_name == "roll_over"
            for event in await service.events(key)
        )

    await until_true(told)


async def test_a_ramp_takes_a_part_and_its_end_gives_it_back(make_service: Callable[..., Any]) -> None:
    service, keys = await make_service(), [fresh_key() for _ in range(24)]
    async with two_builds(service, fresh_key("d")) as deployment:
        await deployment.ramp("two", 50, wait_s=30)
        await asyncio.gather(*(service.ask(key, "remember me") for key in keys))
        found = [await build_of(service, key) for key in keys]
        assert 2 <= found.count("two") <= 22, "by the session's id: about a half"
        await until_counted(deployment, "two", found.count("two"))
        await deployment.ramp("two", 0, wait_s=30)
        ended = await drain_of(deployment, "two").run()
        assert (ended.moved, ended.left) == (found.count("two"), ())
        assert {await build_of(service, key) for key in keys} == {"one"}


async def test_sessions_from_before_there_were_versions_move_to_the_first_one(make_service: Callable[..., Any]) -> None:
    service, key, name = await make_service(), fresh_key(), fresh_key("d")
    async with service.worker():
        await service.ask(key, "remember blue")
    async with service.worker(settings=build(service, name, "one")):
        deployment = deployment_of(service, name)
        await deployment.make_current("one", wait_s=30)
        assert "blue" in (await service.ask(key, "what did I say?")).text
        assert await build_of(service, key) == "one"


async def test_a_turn_in_the_middle_of_its_steps_moves_between_two_of_them(make_service: Callable[..., Any]) -> None:
    service, key = await make_service(), fresh_key()
    gate = service.gate()
    async with two_builds(service, fresh_key("d")) as deployment:
        await service.client.send(key, f"tools run {gate.command}; run {gate.command}", id="a")
        await service.until(key, lambda status: len(status.tools) == 2)
        await until_counted(deployment, "one", 1)
        await deployment.make_current("two", wait_s=30)
        draining = asyncio.create_task(drain_of(deployment, "one", timeout_s=60).run())
        await until_asked(service, key)
        gate.open()
        ended = await draining
        assert (ended.moved, ended.left) == (1, ())
        assert (await service.client.await_reply(key, "a", timeout_s=30)).ok
        await until_builds(service, key, ["one", "two"])
        assert [line["role"] for line in service.lines(key)].count("tool") == 2, "no tool ran twice"


async def test_what_cannot_move_in_time_is_named_and_moves_later(make_service: Callable[..., Any]) -> None:
    service, key = await make_service(), fresh_key()
    gate = service.gate()
    async with two_builds(service, fresh_key("d")) as deployment:
        await service.client.send(key, f"run {gate.command}", id="a")
        await service.until(key, lambda status: status.tools)
        await until_counted(deployment, "one", 1)
        await deployment.make_current("two", wait_s=30)
        ended = await drain_of(deployment, "one", timeout_s=2).run()
        assert (ended.moved, ended.left) == (0, (workflow_id(key),))
        gate.open()
        assert (await drain_of(deployment, "one").run()).left == ()
        assert (await service.client.await_reply(key, "a", timeout_s=30)).ok


async def test_a_scheduled_message_that_waits_is_held_up_by_no_build(make_service: Callable[..., Any]) -> None:
    """It waits for a day for a volume that is away: the build that began it may be gone by then."""
    service, key, name = await make_service(), fresh_key(), fresh_key("d")
    schedules = Schedules(service.temporal, service.settings)
    marker = service.settings.data_dir / MARKER
    async with service.worker(settings=build(service, name, "one")):
        deployment = deployment_of(service, name)
        await deployment.make_current("one", wait_s=30)
        made = await schedules.add(key, Wanted(text="said in time", cron="0 0 1 1 *"), made_by="local:test")
        marker.rename(marker.with_suffix(".away"))
        await service.temporal.get_schedule_handle(schedule_id(key, made.name)).trigger()
        found = await waiting_occurrence(service)
    async with service.worker(settings=build(service, name, "two")):
        await deployment.make_current("two", wait_s=30)
        assert (await drain_of(deployment, "one", timeout_s=10).run()).left == ()
        marker.with_suffix(".away").rename(marker)
        assert await service.temporal.get_workflow_handle(found).result() == "said"
        await service.until(key, lambda status: status.turns == 1)


async def waiting_occurrence(service: Service) -> str:
    """The id of the workflow that a schedule has started, once its activity has failed and waits for the next try."""
    query = f"WorkflowType = 'ScheduledMessageWorkflow' AND TaskQueue = '{service.settings.task_queue}'"
    async with asyncio.timeout(30):
        while True:
            async for one in service.temporal.list_workflows(query):
                raw = (await service.temporal.get_workflow_handle(one.id).describe()).raw_description
                if any(activity.attempt > 1 for activity in raw.pending_activities):
                    info = raw.workflow_execution_info.versioning_info
                    assert info.behavior == VersioningBehavior.VERSIONING_BEHAVIOR_AUTO_UPGRADE
                    return one.id
            await asyncio.sleep(0.1)


async def test_versions_cost_no_event_and_few_bytes_a_turn(
    make_service: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    service, name = await make_service(), fresh_key("d")
    async with service.worker():
        without = await cost_of_turns(service)
    async with service.worker(settings=build(service, name, "one")):
        await deployment_of(service, name).make_current("one", wait_s=30)
        versions = await cost_of_turns(service)
    with capsys.disabled():
        print(f"\na workflow task: {without.task_bytes:.0f} B; with versions {versions.task_bytes:.0f} B")
    assert versions.events == without.events
    assert versions.task_bytes < without.task_bytes * 1.1


@dataclass(frozen=True)
class Cost:
    events: Counter[int]  #: by type, without workflow tasks: how many events share one is chance
    task_bytes: float  #: of history, of the three events of one


async def cost_of_turns(service: Service, turns: int = 20) -> Cost:
    """Without the first turn's."""
    key = fresh_key()
    await service.ask(key, "remember 0")
    await service.until(key, lambda status: status.turns == 1)
    before = await service.events(key)
    for number in range(turns):
        await service.ask(key, f"remember {number}")
    await service.until(key, lambda status: status.turns == turns + 1)
    found = (await service.events(key))[len(before) :]
    sizes = [[event.ByteSize() for event in found if event.event_type == kind] for kind in TASK]
    return Cost(
        events=Counter(event.event_type for event in found if event.event_type not in TASK),
        task_bytes=sum(mean(of_kind) for of_kind in sizes),
    )

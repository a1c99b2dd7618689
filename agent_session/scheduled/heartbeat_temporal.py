"""A heartbeat as a Temporal Schedule. It holds the session's key and times, nothing that carries authority (I10)."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleDescription,
    ScheduleIntervalSpec,
    ScheduleListDescription,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError, RPCStatusCode

from agent_session.domain.ids import session_key
from agent_session.scheduled.heartbeat_file import Heartbeat

WORKFLOW = "HeartbeatWorkflow"
PREFIX = "heartbeat/"  #: of schedule ids and, with the time behind, of workflow ids
LEAST_CATCH_UP_S, MOST_CATCH_UP_S = 10, 60  #: how late Temporal may be when it was away; less than 10 s it refuses
TASK_TIMEOUT = timedelta(seconds=5)  #: how soon a workflow task of a lost worker is given to another


def schedule_id(key: str) -> str:
    return PREFIX + key


def schedule_of(key: str, heartbeat: Heartbeat, task_queue: str) -> Schedule:
    """While one beat is on its way the next are skipped, so that nothing piles up while no worker runs."""
    every = timedelta(seconds=heartbeat.every_s)
    since_set = timedelta(
        seconds=heartbeat.set_s % heartbeat.every_s
    )  # Temporal counts from the epoch, people from now
    catch_up_s = min(max(heartbeat.every_s // 2, LEAST_CATCH_UP_S), MOST_CATCH_UP_S)
    return Schedule(
        action=ScheduleActionStartWorkflow(
            WORKFLOW, {"key": key}, id=schedule_id(key), task_queue=task_queue, task_timeout=TASK_TIMEOUT
        ),
        spec=ScheduleSpec(
            intervals=[ScheduleIntervalSpec(every=every, offset=since_set)],
            jitter=timedelta(seconds=heartbeat.jitter_s) if heartbeat.jitter_s else None,
            start_at=datetime.fromtimestamp(heartbeat.set_s + 1, UTC),  # else jitter makes a beat of the time it is set
        ),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=timedelta(seconds=catch_up_s)),
    )


async def put_schedule(client: Client, key: str, schedule: Schedule) -> None:
    """Make it, or change the one that is there, which stays paused when it was. Errors: RPCError."""

    def changed(known: ScheduleUpdateInput) -> ScheduleUpdate:
        schedule.state = known.description.schedule.state
        return ScheduleUpdate(schedule=schedule)

    try:
        await client.create_schedule(schedule_id(key), schedule)
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle(schedule_id(key)).update(changed)


async def find_schedule(client: Client, key: str) -> ScheduleDescription | None:
    """Errors: RPCError."""
    try:
        return await client.get_schedule_handle(schedule_id(key)).describe()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return None
        raise


async def all_schedules(client: Client) -> AsyncGenerator[tuple[str, ScheduleListDescription]]:
    """Every heartbeat's session key, and what a list knows of it. One made this very moment may be missing. Errors:
    RPCError."""
    async for found in await client.list_schedules():
        if found.id.startswith(PREFIX):
            yield session_key(found.id.removeprefix(PREFIX)), found


async def delete_schedule(client: Client, key: str) -> bool:
    """Whether there was one. Errors: RPCError."""
    try:
        await client.get_schedule_handle(schedule_id(key)).delete()
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True

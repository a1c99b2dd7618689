"""A definition as a Temporal Schedule, and what Temporal says of it. No words in it: a reference alone (I2)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleCalendarSpec,
    ScheduleDescription,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
)

from agent_session.domain.schedules import Definition, Occurrence, Shown, When
from agent_session.domain.wire import to_wire
from agent_session.scheduled.schedules_cron import is_echo
from agent_session.scheduled.schedules_when import in_words

WORKFLOW = "ScheduledMessageWorkflow"
WORKFLOW_PREFIX = "scheduled/"  #: Temporal adds the time
ONCE_CATCH_UP = timedelta(days=1)  #: a one-shot is still said when Temporal was away for so long
TASK_TIMEOUT = timedelta(seconds=5)  #: how soon a workflow task of a lost worker is given to another


def schedule_of(definition: Definition, task_queue: str, catch_up_minutes: int) -> Schedule:
    """While one occurrence is on its way the next are skipped: after an outage of the workers nothing piles up."""
    once = definition.when.at_s != 0
    catch_up = timedelta(minutes=catch_up_minutes)
    given = Occurrence(key=definition.session, name=definition.name, mac=definition.mac)
    return Schedule(
        action=ScheduleActionStartWorkflow(
            WORKFLOW,
            to_wire(given),
            id=f"{WORKFLOW_PREFIX}{definition.session}/{definition.name}",
            task_queue=task_queue,
            task_timeout=TASK_TIMEOUT,
        ),
        spec=_spec(definition.when, definition.made_s, definition.jitter_s),
        policy=SchedulePolicy(
            overlap=ScheduleOverlapPolicy.SKIP,
            catchup_window=max(catch_up, ONCE_CATCH_UP) if once else catch_up,
        ),
        state=ScheduleState(limited_actions=once, remaining_actions=1 if once else 0),
    )


def _spec(when: When, made_s: int, jitter_s: int) -> ScheduleSpec:
    jitter = timedelta(seconds=jitter_s) if jitter_s else None
    if when.at_s:
        at = datetime.fromtimestamp(when.at_s, UTC)
        calendar = ScheduleCalendarSpec(
            second=(ScheduleRange(at.second),),
            minute=(ScheduleRange(at.minute),),
            hour=(ScheduleRange(at.hour),),
            day_of_month=(ScheduleRange(at.day),),
            month=(ScheduleRange(at.month),),
            year=(ScheduleRange(at.year),),
        )
        return ScheduleSpec(calendars=[calendar], jitter=jitter)
    if when.every_s:  # Temporal counts intervals from the epoch; people count them from now
        offset = timedelta(seconds=made_s % when.every_s)
        every = ScheduleIntervalSpec(every=timedelta(seconds=when.every_s), offset=offset)
        return ScheduleSpec(intervals=[every], jitter=jitter)
    return ScheduleSpec(cron_expressions=[when.cron], time_zone_name=when.time_zone, jitter=jitter)


def shown(definition: Definition, found: ScheduleDescription | None) -> Shown:
    """`found` None: Temporal has no such schedule."""
    facts = Shown(
        session=definition.session,
        name=definition.name,
        state="lost",
        when=in_words(definition.when),
        time_zone=definition.when.time_zone,
        text=definition.text,
        target=definition.target,
        isolated=definition.isolated,
        made_by=definition.made_by,
    )
    if found is None:
        return facts
    info = found.info
    coming = [int(time.timestamp()) for time in info.next_action_times]
    return replace(
        facts,
        state=_state(found),
        next_s=tuple(time for time in coming if not is_echo(definition.when, time)),
        last_s=int(info.recent_actions[-1].scheduled_at.timestamp()) if info.recent_actions else 0,
        fired=info.num_actions,
        skipped=info.num_actions_skipped_overlap,
        missed=info.num_actions_missed_catchup_window,
    )


def _state(found: ScheduleDescription) -> str:
    if found.info.running_actions:
        return "due"
    if found.schedule.state.paused:
        return "paused"
    return "active" if found.info.next_action_times else "over"

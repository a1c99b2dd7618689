"""Heartbeats of sessions, for people: set, shown, approved, asked for now, paused, taken away.

Two places hold one: what a person set, on the volume (`heartbeat_file.py`), and the times, in Temporal
(`heartbeat_temporal.py`). A beat without the first is skipped; the first without the second shows as `lost`.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from shlex import quote

from temporalio.client import Client, ScheduleDescription, WorkflowFailureError, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from agent_session.client_types import NoSuchSession, SessionError
from agent_session.domain.ids import session_key, workflow_id
from agent_session.scheduled.heartbeat_content import digest_of, has_something
from agent_session.scheduled.heartbeat_file import (
    Heartbeat,
    forget_heartbeat,
    read_heartbeat,
    read_skips,
    write_heartbeat,
)
from agent_session.scheduled.heartbeat_hours import checked_hours
from agent_session.scheduled.heartbeat_temporal import (
    WORKFLOW,
    all_schedules,
    delete_schedule,
    find_schedule,
    put_schedule,
    schedule_id,
    schedule_of,
)
from agent_session.scheduled.schedules_when import seconds_of, span, time_zone
from agent_session.scheduled.targets import checked_target
from agent_session.settings import Settings
from agent_session.transcript.volume import Volume

NOW_TIMEOUT = timedelta(seconds=90)
ACTIVE, PAUSED, LOST = "active", "paused", "lost"


class NoHeartbeat(NoSuchSession):
    """No heartbeat is set for that session."""


class NoAnswer(SessionError):
    """No worker has taken the beat yet."""


class BadHeartbeat(ValueError):
    """A heartbeat that cannot be set; the message says what was wrong and what to do."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a person asks for, in their own words; empty: as it is, or the default."""

    every: str = ""  #: 30m
    active: str = ""  #: 08:00-23:00, or always
    time_zone: str = ""
    target: str = ""
    jitter: str = ""  #: 10s; 0 for none


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A heartbeat as commands show it. Times are seconds since the epoch, 0 for never."""

    session: str
    state: str  #: active, paused, lost (Temporal has no schedule for it)
    every_s: int
    jitter_s: int
    active: str
    time_zone: str
    target: str
    approved: str  #: sha256 of the approved HEARTBEAT.md; empty: none
    approved_by: str
    approved_s: int
    next_s: int = 0
    last_s: int = 0  #: when one was due last
    due: int = 0  #: times that one was due
    skip: str = ""  #: why the last one never came to the session, a word of `domain.beats.SKIPS`
    skipped: int = 0  #: in a row, for this reason
    skip_since_s: int = 0


class Heartbeats:
    """Those of this Temporal and this volume. Errors of all methods: BadSessionKey, VolumeUnavailable, RPCError."""

    def __init__(self, temporal: Client, settings: Settings) -> None:
        self._temporal, self._settings = temporal, settings
        self._volume = Volume(settings.data_dir)

    async def set(self, key: str, wanted: Wanted, zone: str) -> Shown:
        """Set or change one; what it may run is for `approve`. `zone` where none is named. Errors: NoSuchSession,
        BadHeartbeat, BadSchedule, BadHours."""
        key = session_key(key)
        await self._check_session(key)
        secret = self._secret()
        before = await asyncio.to_thread(read_heartbeat, self._volume, key, secret)
        heartbeat = _changed(before or Heartbeat(time_zone=time_zone(zone)), wanted, self._settings)
        await asyncio.to_thread(write_heartbeat, self._volume, key, secret, heartbeat)
        await put_schedule(self._temporal, key, schedule_of(key, heartbeat, self._settings.task_queue))
        return await self.show(key)

    async def approve(self, key: str, content: bytes, by: str) -> Shown:
        """Let beats run exactly this content of HEARTBEAT.md; nothing in it approves nothing. Errors: NoHeartbeat."""
        key, heartbeat = await self._known(key)
        digest = digest_of(content) if has_something(content) else ""
        approved = replace(heartbeat, approved=digest, approved_by=by, approved_s=int(time.time()))
        await asyncio.to_thread(write_heartbeat, self._volume, key, self._secret(), approved)
        return await self.show(key)

    async def show(self, key: str) -> Shown:
        """Errors: NoHeartbeat."""
        key, heartbeat = await self._known(key)
        return await self._shown(key, heartbeat, await find_schedule(self._temporal, key))

    async def listed(self) -> list[Shown]:
        """Those that Temporal lists, by session."""
        keys = sorted([key async for key, _ in all_schedules(self._temporal)])
        found: list[Shown] = []
        for key in keys:
            heartbeat = await asyncio.to_thread(read_heartbeat, self._volume, key, self._secret())
            if heartbeat is not None:  # else it is of another volume
                found.append(await self._shown(key, heartbeat, await find_schedule(self._temporal, key)))
        return found

    async def pause(self, key: str, *, resume: bool = False) -> Shown:
        """Errors: NoHeartbeat."""
        key, heartbeat = await self._known(key)
        handle = self._temporal.get_schedule_handle(schedule_id(key))
        try:
            await (handle.unpause() if resume else handle.pause())
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            raise NoHeartbeat(f"Temporal has no schedule for the heartbeat of {key!r}: set it again") from None
        return await self._shown(key, heartbeat, await find_schedule(self._temporal, key))

    async def off(self, key: str) -> None:
        """Take it away, with its approval. Errors: NoHeartbeat."""
        key = session_key(key)
        was_due = await delete_schedule(self._temporal, key)
        if not await asyncio.to_thread(forget_heartbeat, self._volume, key) and not was_due:
            raise _not_set(key)

    async def now(self, key: str, timeout_s: float = 30) -> str:
        """One beat at once, also outside active hours and while paused: `sent`, or why it was skipped. Errors:
        NoHeartbeat, NoAnswer."""
        key, _ = await self._known(key)
        handle: WorkflowHandle[object, str] = await self._temporal.start_workflow(
            WORKFLOW,
            {"key": key, "now": True},
            id=f"{schedule_id(key)}/now",
            task_queue=self._settings.task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            execution_timeout=NOW_TIMEOUT,
            result_type=str,
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await handle.result()
        except TimeoutError:
            raise NoAnswer("no worker has taken the beat yet; it is given up after a minute and a half") from None
        except WorkflowFailureError:
            raise NoAnswer("the beat failed: the worker's log says why (agent-session logs)") from None

    async def _check_session(self, key: str) -> None:
        """A beat never starts a session, so there must have been one. Errors: NoSuchSession."""
        try:
            with self._volume.session_folder(key):
                return
        except FileNotFoundError:
            pass
        try:
            await self._temporal.get_workflow_handle(workflow_id(key)).describe()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            raise NoSuchSession(f"there is no session {key!r} yet: send it a message first") from None

    async def _known(self, key: str) -> tuple[str, Heartbeat]:
        key = session_key(key)
        heartbeat = await asyncio.to_thread(read_heartbeat, self._volume, key, self._secret())
        if heartbeat is None:
            raise _not_set(key)
        return key, heartbeat

    def _secret(self) -> bytes:
        return self._volume.signing_key(self._settings.mac_key_file)

    async def _shown(self, key: str, heartbeat: Heartbeat, found: ScheduleDescription | None) -> Shown:
        skips = await asyncio.to_thread(read_skips, self._volume, key)
        state, next_s, last_s, due = LOST, 0, 0, 0
        if found is not None:
            info = found.info
            state = PAUSED if found.schedule.state.paused else ACTIVE
            next_s = int(info.next_action_times[0].timestamp()) if info.next_action_times and state == ACTIVE else 0
            last_s = int(info.recent_actions[-1].scheduled_at.timestamp()) if info.recent_actions else 0
            due = info.num_actions
        facts = {name: value for name, value in vars(heartbeat).items() if name not in ("set_s", "mac")}
        return Shown(
            session=key,
            state=state,
            **facts,
            next_s=next_s,
            last_s=last_s,
            due=due,
            skip=skips.reason,
            skipped=skips.count if skips.reason else 0,
            skip_since_s=skips.since_s if skips.reason else 0,
        )


def _changed(heartbeat: Heartbeat, wanted: Wanted, settings: Settings) -> Heartbeat:
    """Errors: BadHeartbeat, BadSchedule, BadHours."""
    every_s = seconds_of(wanted.every) if wanted.every else heartbeat.every_s
    jitter_s = heartbeat.jitter_s
    if wanted.jitter:
        jitter_s = 0 if wanted.jitter.strip() in ("0", "0s") else seconds_of(wanted.jitter)
    if jitter_s >= every_s:
        raise BadHeartbeat(f"a jitter of {span(jitter_s)} must be shorter than the {span(every_s)} between beats")
    return replace(
        heartbeat,
        every_s=every_s,
        jitter_s=jitter_s,
        active=checked_hours(wanted.active) if wanted.active else heartbeat.active,
        time_zone=time_zone(wanted.time_zone) if wanted.time_zone else heartbeat.time_zone,
        target=checked_target(wanted.target, settings) if wanted.target else heartbeat.target,
        set_s=int(time.time()),
    )


def _not_set(key: str) -> NoHeartbeat:
    return NoHeartbeat(f"no heartbeat is set for session {key!r}: agent-session heartbeat set {quote(key)} --every 30m")

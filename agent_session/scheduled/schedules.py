"""Schedules of sessions: made, listed, paused, run and removed; for people, and through `AgentSchedules` for the agent.

Two places hold one: the definition on the volume (`schedules_store.py`) first, then Temporal. What a crash leaves
between the two shows as `lost`, and says nothing. One-shots remove themselves when their message is sent
(`schedules_send.py`); what is left over all the same is swept when the session's schedules are listed or added to.
"""

import asyncio
import time
import uuid
from contextlib import suppress

from temporalio.client import Client, ScheduleAlreadyRunningError, ScheduleDescription
from temporalio.service import RPCError, RPCStatusCode

from agent_session.domain.ids import session_key
from agent_session.domain.schedules import (
    LAST,
    BadSchedule,
    Definition,
    NoSuchSchedule,
    Shown,
    Wanted,
    checked_for_isolation,
    checked_text,
    key_and_name,
    schedule_id,
    schedule_name,
)
from agent_session.scheduled.schedules_store import Definitions, Forged
from agent_session.scheduled.schedules_temporal import ONCE_CATCH_UP, schedule_of, shown
from agent_session.scheduled.schedules_when import LEAST_EVERY_S, local_time_zone, seconds_of, span, when_of
from agent_session.scheduled.targets import checked_target
from agent_session.settings import Settings
from agent_session.transcript.volume import Volume

FORGED_STATE = "forged"
MADE_FOR = "definition"  #: memo of a Temporal Schedule: the signature of its definition


class LostSchedule(BadSchedule):
    """The volume has its definition, and Temporal knows nothing of it."""


class Schedules:
    """All schedules that this Temporal and this volume have. Errors of all methods: BadSessionKey,
    VolumeUnavailable, RPCError."""

    def __init__(self, temporal: Client, settings: Settings) -> None:
        self._temporal, self._settings = temporal, settings
        self._volume = Volume(settings.data_dir)

    async def add(
        self, key: str, wanted: Wanted, *, made_by: str = "", call: str = "", least_every_s: int = LEAST_EVERY_S
    ) -> Shown:
        """Make a schedule of a session, which need not live yet. The same `call` again is the same schedule. Limits:
        words 64 KiB, `schedule.per_session`. Errors: BadSchedule."""
        definition = self._defined(session_key(key), wanted, made_by, call, least_every_s)
        await self.sweep(definition.session)
        definitions = await self._definitions()
        stored = await asyncio.to_thread(definitions.put_new, definition)
        if stored is None:
            stored = await self._made_before(definitions, definition)
        else:
            await self._within_limit(definitions, stored)
        try:
            return shown(stored, await self._create(stored))
        except BadSchedule:
            await self.remove(stored.session, stored.name)
            raise

    async def listed(self, key: str = "") -> list[Shown]:
        """Those of a session, or all that Temporal knows of (a new one may be missing there for a moment)."""
        if key:
            await self.sweep(session_key(key))
            definitions = await self._definitions()
            names = await asyncio.to_thread(definitions.names, session_key(key))
            return [await self._shown(definitions, session_key(key), name) for name in names]
        ids = [found.id async for found in await self._temporal.list_schedules()]
        keys = sorted({ours[0] for one in ids if (ours := key_and_name(one)) is not None})
        return [one for each in keys for one in await self.listed(each)]

    async def show(self, key: str, name: str) -> Shown:
        """Errors: NoSuchSchedule."""
        return await self._shown(await self._definitions(), session_key(key), schedule_name(name))

    async def pause(self, key: str, name: str) -> Shown:
        """Errors: NoSuchSchedule."""
        await self._handled(key, name, "pause")
        return await self.show(key, name)

    async def resume(self, key: str, name: str) -> Shown:
        """Also makes one again that Temporal has lost. Errors: NoSuchSchedule; BadSchedule for one whose time has
        passed meanwhile."""
        try:
            await self._handled(key, name, "unpause")
        except LostSchedule:
            await self._make_again(session_key(key), name)
        now = await self.show(key, name)
        if now.state == "over":
            raise BadSchedule(f"the time of schedule {name!r} passed while it was paused: run it now, or remove it")
        return now

    async def run(self, key: str, name: str) -> None:
        """Say it now, paused or not, beside its own times; a one-shot is over with it. Errors: NoSuchSchedule."""
        await self._handled(key, name, "trigger")

    async def remove(self, key: str, name: str) -> None:
        """What is on its way already still comes. Errors: NoSuchSchedule."""
        key, name = session_key(key), schedule_name(name)
        definitions = await self._definitions()
        known = name in await asyncio.to_thread(definitions.names, key)
        if not (await self._delete(key, name) or known):
            raise _no_such(key, name, await asyncio.to_thread(definitions.names, key))
        await asyncio.to_thread(definitions.remove, key, name)

    async def sweep(self, key: str) -> None:
        """Remove one-shots whose time is over."""
        definitions = await self._definitions()
        for name in await asyncio.to_thread(definitions.names, key):
            try:
                definition = await asyncio.to_thread(definitions.read, key, name)
            except (Forged, NoSuchSchedule):
                continue
            if not 0 < definition.when.at_s < time.time():
                continue
            found = await self._found(key, name)
            late = definition.when.at_s + ONCE_CATCH_UP.total_seconds() < time.time()
            if (shown(definition, found).state == "over" and found and found.info.num_actions) or (late and not found):
                await self._delete(key, name)
                await asyncio.to_thread(definitions.remove, key, name)

    def _defined(self, key: str, wanted: Wanted, made_by: str, call: str, least_every_s: int) -> Definition:
        now = time.time()
        zone = self._settings.schedule.time_zone or local_time_zone()
        when = when_of(wanted, now, zone, least_every_s=least_every_s)
        jitter_s = seconds_of(wanted.jitter) if wanted.jitter else 0
        if when.every_s and jitter_s >= when.every_s:
            raise BadSchedule(f"a jitter of {span(jitter_s)} must be shorter than the {span(when.every_s)} between")
        return Definition(
            session=checked_for_isolation(key) if wanted.isolated else key,
            name=schedule_name(wanted.name) if wanted.name else f"s-{uuid.uuid4().hex[:8]}",
            text=checked_text(wanted.text),
            when=when,
            target=checked_target(wanted.target or LAST, self._settings),
            isolated=wanted.isolated,
            jitter_s=jitter_s,
            made_by=made_by,
            made_s=int(now),
            call=call,
        )

    async def _within_limit(self, definitions: Definitions, stored: Definition) -> None:
        """Errors: BadSchedule; then it is not stored any more."""
        limit, names = self._settings.schedule.per_session, await asyncio.to_thread(definitions.names, stored.session)
        if len(names) > limit:
            await asyncio.to_thread(definitions.remove, stored.session, stored.name)
            raise BadSchedule(
                f"session {stored.session!r} may have {limit} schedules (schedule.per_session): remove one first"
            )

    async def _made_before(self, definitions: Definitions, definition: Definition) -> Definition:
        """What the same call made in an attempt that was lost. Errors: BadSchedule for one of somebody else."""
        with suppress(Forged, NoSuchSchedule):
            found = await asyncio.to_thread(definitions.read, definition.session, definition.name)
            if definition.call and found.call == definition.call:
                return found
        raise BadSchedule(
            f"session {definition.session!r} has a schedule {definition.name!r} already: remove it first, or choose "
            f"another name"
        )

    async def _create(self, definition: Definition) -> ScheduleDescription | None:
        """Errors: BadSchedule when Temporal refuses it, or when its time never comes."""
        settings = self._settings
        schedule = schedule_of(definition, settings.task_queue, settings.schedule.catch_up_minutes)
        name = schedule_id(definition.session, definition.name)
        try:
            handle = await self._temporal.create_schedule(name, schedule, memo={MADE_FOR: definition.mac})
        except ScheduleAlreadyRunningError:
            handle = self._temporal.get_schedule_handle(name)
            made_for = await (await handle.describe()).memo_value(MADE_FOR, "", type_hint=str)
            if made_for != definition.mac:  # left over from one whose definition is gone
                await handle.delete()
                handle = await self._temporal.create_schedule(name, schedule, memo={MADE_FOR: definition.mac})
        except RPCError as error:
            if error.status != RPCStatusCode.INVALID_ARGUMENT:
                raise
            raise BadSchedule(f"Temporal refuses this schedule: {str(error).splitlines()[0][:200]}") from None
        found = await handle.describe()
        nothing = not (found.info.next_action_times or found.info.num_actions or found.info.running_actions)
        if nothing and definition.when.at_s:  # its time passed while it was being made
            await handle.trigger()
        elif nothing:
            raise BadSchedule(f"the time of {definition.when.cron!r} never comes: name days that exist")
        return found

    async def _make_again(self, key: str, name: str) -> None:
        """Errors: BadSchedule."""
        try:
            definition = await asyncio.to_thread((await self._definitions()).read, key, name)
        except Forged as error:
            raise BadSchedule(str(error)) from None
        if 0 < definition.when.at_s <= time.time():
            raise BadSchedule(f"the time of schedule {name!r} has passed: remove it")
        await self._create(definition)

    async def _handled(self, key: str, name: str, what: str) -> None:
        """Errors: NoSuchSchedule, LostSchedule."""
        key, name = session_key(key), schedule_name(name)
        handle = self._temporal.get_schedule_handle(schedule_id(key, name))
        try:
            await {"pause": handle.pause, "unpause": handle.unpause, "trigger": handle.trigger}[what]()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            names = await asyncio.to_thread((await self._definitions()).names, key)
            raise (LostSchedule(_lost(name)) if name in names else _no_such(key, name, names)) from None

    async def _delete(self, key: str, name: str) -> bool:
        """Whether Temporal had it."""
        try:
            await self._temporal.get_schedule_handle(schedule_id(key, name)).delete()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True

    async def _found(self, key: str, name: str) -> ScheduleDescription | None:
        try:
            return await self._temporal.get_schedule_handle(schedule_id(key, name)).describe()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return None

    async def _shown(self, definitions: Definitions, key: str, name: str) -> Shown:
        try:
            definition = await asyncio.to_thread(definitions.read, key, name)
        except Forged as error:
            return Shown(session=key, name=name, state=FORGED_STATE, text=str(error))
        except NoSuchSchedule:
            raise _no_such(key, name, await asyncio.to_thread(definitions.names, key)) from None
        return shown(definition, await self._found(key, name))

    async def _definitions(self) -> Definitions:
        secret = await asyncio.to_thread(self._volume.signing_key, self._settings.mac_key_file)
        return Definitions(self._volume, secret)


def _lost(name: str) -> str:
    return f"Temporal does not have schedule {name!r} any more: resume it to make it again, or remove it"


def _no_such(key: str, name: str, names: list[str]) -> NoSuchSchedule:
    return NoSuchSchedule(f"session {key!r} has no schedule {name!r}; it has: {', '.join(names) or 'none'}")

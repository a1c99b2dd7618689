"""The activity `say_scheduled`: the time of a schedule has come, its message goes into the session.

Said only when the definition on the volume is signed and is the very one that was scheduled. The message carries no
grants: what it sets going is asked about like anybody's (I10). Retried, it is the same message by its id (I1).
"""

import asyncio
from contextlib import suppress
from typing import Any

import structlog
from temporalio import activity
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from agent_session.client import SessionClient
from agent_session.client_types import SessionIsLive
from agent_session.domain.messages import SCHEDULE
from agent_session.domain.schedules import (
    LAST,
    NONE,
    SCHEDULE_CHANNEL,
    Definition,
    NoSuchSchedule,
    Occurrence,
    message_of,
    principal_of,
    run_key,
    schedule_id,
)
from agent_session.domain.wire import Wire, from_wire
from agent_session.operations import Services
from agent_session.scheduled.last_place import last_place
from agent_session.scheduled.schedules_cron import is_echo, time_name
from agent_session.scheduled.schedules_store import Definitions, Forged
from agent_session.waiting import Waiter

BUSY_PATIENCE_S = 5.0  #: then the attempt fails, and is retried
SAID, REMOVED, ECHO = "said", "removed", "no time"

log = structlog.get_logger("agent_session.schedules")


class ScheduleActivity:
    """One object a worker."""

    def __init__(self, services: Services, client: Client) -> None:
        self._services, self._client = services, client
        self._settings, self._volume = services.settings, services.volume
        self._waiter = Waiter(client, services.volume)

    @activity.defn(name="say_scheduled")
    async def say_scheduled(self, raw: Wire) -> str:
        """Returns `said`; `removed` when the schedule is gone; `no time` for one that no clock shows. Failures carry a
        class word alone (I2)."""
        occurrence = from_wire(Occurrence, raw)
        try:
            return await self._say(occurrence)
        except Exception as error:
            kind = type(error).__name__
            where = {"session": occurrence.key, "schedule": occurrence.name}
            log.warning("a schedule's message was not sent", **where, error=f"{kind}: {error}"[:500])
            raise ApplicationError(kind, type=kind, non_retryable=isinstance(error, Forged | ValueError)) from None

    async def _say(self, occurrence: Occurrence) -> str:
        """Errors: Forged; VolumeUnavailable, SessionBusy and RPCError are retried."""
        secret = await asyncio.to_thread(self._volume.signing_key, self._settings.mac_key_file)
        definitions = Definitions(self._volume, secret)
        try:
            definition = await asyncio.to_thread(definitions.read, occurrence.key, occurrence.name)
        except NoSuchSchedule:
            return REMOVED
        if definition.mac != occurrence.mac:
            return REMOVED  # and made anew under the same name
        if is_echo(definition.when, occurrence.due_s):
            return ECHO
        await self._send(definition, time_name(definition.when, occurrence.due_s))
        if definition.when.at_s:
            await self._forget(definition, definitions)
        return SAID

    async def _send(self, definition: Definition, due: str) -> None:
        place = "" if definition.target == NONE else definition.target
        if place == LAST:
            place = await asyncio.to_thread(last_place, self._volume, definition.session, self._services.channels)
        speaker = self._speaker(principal_of(definition.session))
        how: dict[str, Any] = {"id": message_of(definition, due), "kind": SCHEDULE, "reply_address": place}
        how["sender"] = f"schedule {definition.name}"
        if not definition.isolated:
            await speaker.send(definition.session, definition.text, timeout_s=BUSY_PATIENCE_S, **how)
            return
        with suppress(SessionIsLive):  # an attempt before this one has started it
            await speaker.start_once(definition.text, run_key(definition, due), **how)

    def _speaker(self, principal: str) -> SessionClient:
        """With no grants: what it sets going asks like anybody's."""
        made = SessionClient(
            self._client, self._settings, channel=SCHEDULE_CHANNEL, principal=principal, waiter=self._waiter
        )
        made.grants = ()
        return made

    async def _forget(self, definition: Definition, definitions: Definitions) -> None:
        """A one-shot is over. Temporal first: a retry finds the definition as long as anything is left to do."""
        handle = self._client.get_schedule_handle(schedule_id(definition.session, definition.name))
        try:
            await handle.delete()
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
        await asyncio.to_thread(definitions.remove, definition.session, definition.name)

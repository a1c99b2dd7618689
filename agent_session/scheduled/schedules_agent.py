"""What the agent's tool `schedule` is given: the schedules of its own session, and no other's.

Implements the port `OwnSchedules` of `tools/base.py`. A retried call makes one schedule: its name comes from the call.
"""

import hashlib
import time
from dataclasses import replace

from temporalio.client import Client

from agent_session.domain.schedules import Shown, Wanted
from agent_session.operations import Services
from agent_session.scheduled.schedules import Schedules
from agent_session.scheduled.schedules_when import LEAST_EVERY_AGENT_S, local, local_time_zone

AGENT = "agent"


class AgentSchedules:
    """For one tool call. Errors of all methods: BadSchedule, VolumeUnavailable, RPCError."""

    def __init__(self, client: Client, services: Services, session: str, call: str) -> None:
        self._schedules = Schedules(client, services.settings)
        self._session, self._call = session, call
        self._zone = services.settings.schedule.time_zone or local_time_zone()

    def now(self) -> str:
        return f"{local(time.time(), self._zone)} ({self._zone})"

    async def add(self, wanted: Wanted) -> Shown:
        name = wanted.name or f"a-{hashlib.sha256(self._call.encode()).hexdigest()[:8]}"
        own = replace(wanted, name=name, isolated=False)  # a run of its own would be another session
        least = LEAST_EVERY_AGENT_S
        return await self._schedules.add(self._session, own, made_by=AGENT, call=self._call, least_every_s=least)

    async def listed(self) -> list[Shown]:
        return await self._schedules.listed(self._session)

    async def remove(self, name: str) -> None:
        await self._schedules.remove(self._session, name)

"""The activity `beat`: one heartbeat of one session, sent or skipped.

Checks what needs no session: active hours, HEARTBEAT.md and its approval. The session decides the rest. A beat that
is skipped here costs the session nothing; it is told when the reason changes, so that its status says why. A retried
attempt sends the same message: its id is the scheduled time.
"""

import asyncio
import time
from dataclasses import dataclass, replace

import structlog
from temporalio import activity
from temporalio.client import Client
from temporalio.service import RPCError

from agent_session.client import SessionClient
from agent_session.client_types import NoSuchSession, SessionBusy
from agent_session.domain.beats import BUSY, CHANGED, EMPTY, HOURS, NO_SESSION, NOT_SET, UNREADABLE
from agent_session.domain.ids import BadSessionKey, session_key, workflow_id
from agent_session.domain.messages import HEARTBEAT, NOTICE
from agent_session.domain.schedules import LAST, NONE
from agent_session.domain.wire import Wire, from_wire
from agent_session.operations import Services, workspace_of
from agent_session.paths import TooLarge, UnsafePath
from agent_session.scheduled.heartbeat_content import (
    digest_of,
    has_something,
    read_content,
    words_of_beat,
    words_of_question,
)
from agent_session.scheduled.heartbeat_file import Heartbeat, Skips, read_heartbeat, read_skips, write_skips
from agent_session.scheduled.heartbeat_hours import is_active
from agent_session.scheduled.last_place import last_place
from agent_session.telemetry.metrics import beats_skipped
from agent_session.waiting import Waiter

SENT = "sent"
BUSY_S = 5  #: a session that takes no signals for so long is busy

log = structlog.get_logger("agent_session.heartbeat")


@dataclass(frozen=True, kw_only=True)
class Beat:
    """What the activity gets."""

    key: str = ""
    now: bool = False  #: a person asked for it: also outside active hours
    due_ms: int = 0  #: the scheduled time, since the epoch


@dataclass(frozen=True)
class Judged:
    """Whether there is something to send: `skip` is empty then."""

    heartbeat: Heartbeat
    skip: str = ""
    content: bytes = b""


class HeartbeatActivity:
    """One object a worker."""

    def __init__(self, services: Services, client: Client) -> None:
        self._services, self._client = services, client
        self._volume = services.volume
        self._waiter = Waiter(client, services.volume)

    @activity.defn(name="beat")
    async def beat(self, raw: Wire) -> str:
        """Returns `sent`, or why the beat was skipped (a word of `SKIPS`). Errors: VolumeUnavailable, RPCError."""
        beat = from_wire(Beat, raw)
        try:
            key = session_key(beat.key)
        except BadSessionKey:
            return NOT_SET
        judged = await asyncio.to_thread(self._judge, key, beat)
        skip = judged.skip or await self._send(key, beat, judged)
        if skip == NOT_SET:  # nothing is written for a session that nobody has set one for
            return skip
        await self._remember(key, beat, judged, skip)
        if skip:
            beats_skipped.labels(skip).inc()
        log.info("a heartbeat was skipped" if skip else "a heartbeat was sent", id=key, reason=skip)
        return skip or SENT

    def _judge(self, key: str, beat: Beat) -> Judged:
        secret = self._volume.signing_key(self._services.settings.mac_key_file)
        heartbeat = read_heartbeat(self._volume, key, secret)
        if heartbeat is None:
            return Judged(Heartbeat(), NOT_SET)
        if not beat.now and not is_active(heartbeat.active, heartbeat.time_zone, time.time()):
            return Judged(heartbeat, HOURS)
        workspace = workspace_of(self._volume, key)
        try:
            content = read_content(workspace)
        except (UnsafePath, TooLarge, OSError) as error:
            log.warning("HEARTBEAT.md cannot be read", id=key, error=str(error))
            return Judged(heartbeat, UNREADABLE)
        if not has_something(content):
            return Judged(heartbeat, EMPTY)
        if digest_of(content) != heartbeat.approved:
            return Judged(heartbeat, CHANGED, content)
        return Judged(heartbeat, content=content)

    async def _send(self, key: str, beat: Beat, judged: Judged) -> str:
        words = words_of_beat(judged.content, beat.due_ms // 1000, judged.heartbeat.time_zone)
        place = await self._place(key, judged.heartbeat)
        return await self._say(key, words, kind=HEARTBEAT, id=f"beat@{beat.due_ms}", place=place)

    async def _say(self, key: str, words: str, *, kind: str, id: str, place: str) -> str:
        """Empty when the session has it; else why not. With no grants: nobody has said this (I10)."""
        client = SessionClient(
            self._client,
            self._services.settings,
            channel=HEARTBEAT,
            principal=f"{HEARTBEAT}:{key}",
            waiter=self._waiter,
        )
        client.grants = ()
        try:
            await client.send(key, words, id=id, kind=kind, reply_address=place, start=False, timeout_s=BUSY_S)
        except NoSuchSession:
            return NO_SESSION
        except SessionBusy:
            return BUSY
        return ""

    async def _place(self, key: str, heartbeat: Heartbeat) -> str:
        if heartbeat.target == LAST:
            return await asyncio.to_thread(last_place, self._volume, key, self._services.channels)
        return "" if heartbeat.target == NONE else heartbeat.target

    async def _remember(self, key: str, beat: Beat, judged: Judged, skip: str) -> None:
        before = await asyncio.to_thread(read_skips, self._volume, key)
        now = int(time.time())
        same = skip == before.reason
        known = replace(before, reason=skip, since_s=before.since_s if same else now)
        known = replace(known, count=(before.count if same else 0) + 1, last_s=now)
        if skip == CHANGED and before.asked != digest_of(judged.content):
            known = replace(known, asked=await self._ask(key, beat, judged, before))
        known = replace(known, told=await self._tell(key, skip, before.told))
        if skip or known != replace(before, count=known.count, last_s=now):
            await asyncio.to_thread(write_skips, self._volume, key, known)

    async def _ask(self, key: str, beat: Beat, judged: Judged, before: Skips) -> str:
        """A person, once for each content, at the beat's target. Returns what was asked about, if it was."""
        place, digest = await self._place(key, judged.heartbeat), digest_of(judged.content)
        if not place:
            return before.asked
        id = f"approve@{digest[:16]}/{beat.due_ms}"
        problem = await self._say(key, words_of_question(key), kind=NOTICE, id=id, place=place)
        return before.asked if problem else digest

    async def _tell(self, key: str, skip: str, told: str) -> str:
        """The session, for its status, when the reason is a new one. Returns what it knows then."""
        if skip in ("", NO_SESSION, told):
            return told if skip == told else ""
        try:
            await self._client.get_workflow_handle(workflow_id(key)).signal("beat_skipped", skip)
        except RPCError:
            return ""  # it does not live, or is flooded: told another time
        return skip

"""The activity `deliver`: hand one reply to a channel, on the channel's own task queue, so that it waits
durably until that channel is up. Posting is keyed by the reply's id: the channel looks it up first.
"""

import asyncio
import errno
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from agent_session.activities.faults import volume_delay_s
from agent_session.domain.authority import place_is_signed
from agent_session.domain.beats import says_ok
from agent_session.domain.failures import FailureEnvelope
from agent_session.domain.ids import error_id, key_of_workflow
from agent_session.domain.messages import Attachment, attachment_from
from agent_session.domain.outbound import Outbound, kind_of, with_names
from agent_session.domain.outbox import Delivery
from agent_session.domain.replies import FAILED
from agent_session.domain.wire import Wire, from_wire
from agent_session.settings import Settings
from agent_session.telemetry.measure import posting
from agent_session.transcript import spool
from agent_session.transcript.log import VolumeFault
from agent_session.transcript.reader import reply_of
from agent_session.transcript.volume import Volume, VolumeUnavailable

BEAT_S = 1.0
OF_THE_VOLUME = (errno.EDQUOT, errno.EIO, errno.ENOSPC, errno.EROFS, errno.ESTALE)

log = structlog.get_logger("agent_session.deliver")

REPLY_LOST = "Sorry: a reply to this place was lost when the data volume was restored to an older copy."


class NotYet(Exception):
    """The transcript does not show the reply yet; retried."""


class Refused(Exception):
    """The place is not one that this service's channels named; never retried."""


class PostsFiles(Protocol):
    """The part of a channel's capabilities that this activity needs."""

    @property
    def posts_files(self) -> bool: ...


class DeliversReplies(Protocol):
    """The part of a channel that this activity needs."""

    name: str

    @property
    def capabilities(self) -> PostsFiles: ...

    async def deliver(self, out: Outbound) -> None:
        """Post once: look the id up, then post. Errors: any; it is retried."""
        ...


class DeliverActivity:
    """One object a channel process."""

    def __init__(self, channel: DeliversReplies, volume: Volume, settings: Settings) -> None:
        self._channel, self._volume, self._settings = channel, volume, settings

    @activity.defn(name="deliver")
    async def deliver(self, raw: Wire) -> None:
        """Heartbeats, so that a lost worker holds its place up for seconds only. A cancel finds nothing to
        stop: a post that has begun is finished, or the next run would post it again."""
        posting = asyncio.create_task(self._post(raw))
        while not posting.done():
            activity.heartbeat()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({posting}, timeout=BEAT_S)
        posting.result()

    async def _post(self, raw: Wire) -> None:
        delivery = from_wire(Delivery, raw)
        key = key_of_workflow(activity.info().workflow_id or "")
        try:
            secret = await asyncio.to_thread(self._volume.signing_key, self._settings.mac_key_file)
            if not place_is_signed(secret, key, delivery.address, delivery.mac):
                raise Refused(f"the address {delivery.address!r} is not signed")
            text = await asyncio.to_thread(self._text_of, key, delivery, activity.info().scheduled_time)
            if text and not (delivery.unless_ok and says_ok(text)):
                files = await asyncio.to_thread(self._files_of, key, delivery, text)
                if not self._channel.capabilities.posts_files:
                    text, files = with_names(text, files), ()
                due_s = activity.info().scheduled_time.timestamp()
                out = _outbound(key, delivery, text, files)
                with posting(self._channel.name, out.kind, due_s):
                    await self._channel.deliver(out)
        except Exception as error:
            identifier = error_id(delivery.reply, delivery.address)
            where = {"address": delivery.address, "reply": delivery.reply, "error_id": identifier}
            log.warning("a delivery failed", **where, error=str(error)[:500])
            kind = type(error).__name__
            raise ApplicationError(
                kind,
                type=kind,
                non_retryable=isinstance(error, Refused | ValueError),
                next_retry_delay=_soon() if _is_of_the_volume(error) else None,
            ) from None

    def _text_of(self, key: str, delivery: Delivery, scheduled: datetime) -> str:
        waited = (datetime.now(UTC) - scheduled).total_seconds()
        if delivery.text_ref:
            try:
                return spool.get(self._volume, key, delivery.text_ref).decode("utf-8", "replace")
            except FileNotFoundError:
                if waited < self._settings.volume.catch_up_s:
                    raise NotYet(f"the words of {delivery.reply} are not there yet") from None
                return REPLY_LOST  # lost with a restore: it must not block its place
        if delivery.outcome == FAILED:
            return FailureEnvelope(kind=delivery.failure, error_id=delivery.error_id).apology
        found = reply_of(self._volume, key, delivery.reply)
        if found is None:
            if waited < self._settings.volume.catch_up_s:
                raise NotYet(f"the transcript does not show the end of {delivery.reply} yet")
            return REPLY_LOST
        text, ended = found
        return text or (f"({ended.get('outcome')})" if delivery.outcome != "answered" else "")

    def _files_of(self, key: str, delivery: Delivery, text: str) -> tuple[Attachment, ...]:
        """Those that go with the words; the list was stored before the words were."""
        if not delivery.files_ref or text == REPLY_LOST:
            return ()
        listed = spool.get(self._volume, key, delivery.files_ref).decode("utf-8", "replace")
        return tuple(attachment_from(line) for line in listed.splitlines())


def _is_of_the_volume(error: Exception) -> bool:
    """A channel's own network errors are OSErrors, too."""
    if isinstance(error, VolumeUnavailable | VolumeFault | NotYet):
        return True
    return isinstance(error, OSError) and error.errno in OF_THE_VOLUME


def _soon() -> timedelta:
    """The volume comes back for all at once: nobody waits out a pause that grew while it was away."""
    return timedelta(seconds=volume_delay_s(activity.info().attempt - 1))


def _outbound(key: str, delivery: Delivery, text: str, files: tuple[Attachment, ...]) -> Outbound:
    return Outbound(
        session=key,
        place=delivery.address.partition(":")[2],
        reply=delivery.reply,
        text=text,
        kind=kind_of(delivery.reply, own_words=delivery.text_ref != ""),
        outcome=delivery.outcome,
        files=files,
    )

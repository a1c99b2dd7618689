"""Replies into Slack, each message once as people see it, whatever dies on the way.

Before a message is posted the journal says so, synced; each message carries the reply's id and the part's number as
Slack metadata. An attempt that finds a post begun and not recorded looks it up in Slack, and posts only what is not
there. An answer that is being shown while it is written is finished where it stands, as long as people see it become
the reply: where other words of ours stand below it by now, or it is old, it is taken away and posted anew.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any, cast

import structlog
from slack_sdk.web.async_client import AsyncWebClient

from agent_session.client import SessionClient
from agent_session.domain.outbound import CARD, Outbound
from agent_session.settings_channels import SlackSettings
from agent_session.transcript.volume import Volume
from channels.slack.mrkdwn import escape
from channels.slack.outbox import NATIVE, Journal, Outbox, Shown, digest
from channels.slack.places import SlackPlace
from channels.slack.posting_calls import Limited, Never, NotDone, Unreached, Unsure, calls_of
from channels.slack.posting_cards import OF_BLOCKS, Cards, NotKnown
from channels.slack.posting_files import Sharing
from channels.slack.posting_lookup import Lookup
from channels.slack.posting_parts import Part, parts_of
from channels.slack.streaming_text import is_begun_with, streamed

EVENT_TYPE = "agent_session_reply"
ATTEMPT_S = 11.0  #: below the time-out of the activity that posts, `operations.deliver_timeout_s`
LOCK_S = 7.0  #: as long as another attempt may need for the call that it is in
SETTLE_S = 2.0  #: a post may still be under way to Slack that long after it was begun
ASK_S = 2.0  #: for the question whether an answer that is shown is followed: a limit on it may not cost the attempt
OLD_S = 60.0  #: after that an answer that is shown is posted anew: an edit notifies nobody
#: what was shown cannot become the reply: it is posted anew
GONE = ("message_not_found", "cant_update_message", "edit_window_closed", "message_not_owned_by_app", "msg_too_long")
#: how it is posted, always: nothing is unfurled, no name becomes a mention
QUIET: dict[str, Any] = {"unfurl_links": False, "unfurl_media": False, "link_names": False, "parse": "none"}

log = structlog.get_logger("agent_session.slack")


class Poster:
    """One object a process; any number of processes."""

    def __init__(
        self,
        web: AsyncWebClient,
        volume: Volume,
        settings: SlackSettings,
        client: SessionClient | None = None,
        *,
        settle_s: float = SETTLE_S,
    ) -> None:
        check_host(web, settings)
        self.calls = calls_of(web)
        self.outbox = Outbox(volume)
        self._cards = Cards(self.calls, client, settings)  #: without a client they have no buttons
        self._lookup = Lookup(self.calls, settle_s)
        self._sharing = Sharing(self.calls, self._lookup, volume, settings.api_url)

    def check_place(self, place: str) -> None:
        """Errors: ValueError."""
        SlackPlace.parse(place)

    async def post(self, out: Outbound) -> None:
        """Post the reply, what is missing of it, within 12 s. Errors: ValueError for a place that can never be
        posted to; any other means: call again, in the same words."""
        await self._post(out, time.monotonic() + ATTEMPT_S)

    async def _post(self, out: Outbound, deadline: float, *, copy: bool = False) -> None:
        place = SlackPlace.parse(out.place)
        async with self.outbox.held(journal_of(out.session, out.place, out.reply), LOCK_S) as journal:
            if journal.progress.done:
                return
            if not journal.progress.first_at:
                await journal.add(do="begin", at=time.time())
            if journal.progress.shown is not None and not journal.progress.finishing:
                await journal.add(do="finish")
            try:
                parts = await self._all_parts(out, place, journal, deadline, copy=copy)
            except Never as refusal:
                if out.kind != CARD or journal.progress.in_words or refusal.code not in OF_BLOCKS:
                    raise
                log.warning("Slack refuses a card: it is posted as words", reply=out.reply, reason=refusal.code)
                await journal.add(**{"not": "blocks"})
                parts = await self._all_parts(out, place, journal, deadline, copy=copy)
            if out.kind == CARD and not copy:
                await self._tell_owner(out, place, deadline)
            if out.files:
                notes = await self._sharing.share(out, place, journal, deadline)
                number = len(parts) + 1
                if notes and number not in journal.progress.posted:
                    await self._part(out, place, journal, (number, number), Part(text=escape(notes)), deadline)
            await journal.add(do="done")

    async def _all_parts(
        self, out: Outbound, place: SlackPlace, journal: Journal, deadline: float, *, copy: bool
    ) -> list[Part]:
        """The words, or the card; returns what they are."""
        card = out.kind == CARD
        parts = await (self._cards.parts(out, journal, copy=copy) if card else asyncio.to_thread(parts_of, out))
        for number, part in enumerate(parts, 1):
            if number not in journal.progress.posted:
                await self._part(out, place, journal, (number, len(parts)), part, deadline)
            if 0 < journal.progress.of <= number:
                break  # an attempt before had less to say: a card, whose call is decided by now
        return parts

    async def _tell_owner(self, out: Outbound, place: SlackPlace, deadline: float) -> None:
        """A card that nobody who reads it there may decide goes to an owner, too. The place's own card stands."""
        try:
            copy = await self._cards.copy(out, place, deadline)
            if copy is not None:
                await self._post(copy, deadline, copy=True)
        except (Never, NotDone) as refusal:
            if isinstance(refusal, Limited | Unreached | NotKnown):
                raise
            log.error("no owner could be told of a card", session=out.session, reply=out.reply, reason=str(refusal))

    async def _part(
        self, out: Outbound, place: SlackPlace, journal: Journal, which: tuple[int, int], part: Part, deadline: float
    ) -> None:
        """One message, `which` of how many: the one that shows the answer already, the one that an attempt left
        behind, or a new one."""
        number, of = which
        metadata = metadata_of(out.session, out.reply, number)
        shown = journal.progress.shown if number == 1 else None
        ts = await self._shown_at(place, journal, shown, metadata, deadline) if shown is not None else ""
        if shown is not None and ts and await self._became(place, journal, shown, ts, part, metadata, deadline):
            await journal.add(did="post", part=number, ts=ts)
            return
        if number in journal.progress.trying:
            first, last = journal.progress.trying[number]
            await self._lookup.settle(last, deadline)
            found = await self._lookup.find(
                place, first, lambda one: has(one, metadata) and one.get("ts") != ts, deadline
            )
            if found:
                await journal.add(did="post", part=number, ts=found)
                return
        await journal.add(do="post", part=number, of=of, at=time.time())
        try:
            given = {"text": part.text, "metadata": metadata, **where_in(place), **QUIET}
            if part.blocks:
                given["blocks"] = list(part.blocks)
            posted = await self.calls.do("chat_postMessage", deadline, **given)
        except (NotDone, Never):
            await journal.add(**{"not": "post", "part": number})  # nothing is there: no need to look for it
            raise
        await journal.add(did="post", part=number, ts=str(posted["ts"]))

    async def _became(
        self,
        place: SlackPlace,
        journal: Journal,
        shown: Shown,
        ts: str,
        part: Part,
        metadata: dict[str, Any],
        deadline: float,
    ) -> bool:
        """Whether the message that shows the answer is now the reply itself. Where it has gone, the journal says so:
        no later attempt looks for it. One that Slack keeps stays known, since it may carry the reply's metadata."""
        if shown.leaving or await self._is_missed(place, shown, ts, deadline):
            if not shown.leaving:
                await journal.add(do="remove")
            if await self._remove(place, shown, ts, deadline):
                await journal.add(**{"not": "show"})
                return False
        return await self._finish(place, journal, shown, ts, part, metadata, deadline)

    async def _is_missed(self, place: SlackPlace, shown: Shown, ts: str, deadline: float) -> bool:
        """Whether people would not see it become the reply."""
        if time.time() - shown.at > OLD_S:
            return True
        deadline = min(deadline, time.monotonic() + ASK_S)
        try:
            me = await self.calls.me(deadline)
            return await self._lookup.is_followed(place, ts, lambda one: is_of(one, me), deadline)
        except Limited:
            return False  # the answer is worth more than its place
        except (NotDone, Never, Unsure):
            return True  # unknown: posted anew the order is right in any case

    async def _finish(
        self,
        place: SlackPlace,
        journal: Journal,
        shown: Shown,
        ts: str,
        part: Part,
        metadata: dict[str, Any],
        deadline: float,
    ) -> bool:
        """Make the message that shows the answer the reply itself. False: it is not there any more."""
        where = {"channel": place.channel, "ts": ts}
        if shown.how == NATIVE and await self._stop(shown, where, part, metadata, deadline):
            return True
        new: dict[str, Any] = {"text": part.text, "metadata": metadata, "link_names": False, "parse": "none"}
        try:
            await self.calls.do("chat_update", deadline, **where, **new)
        except (NotDone, Never) as refusal:
            if refusal.code == "block_mismatch":  # what was streamed stays what Slack calls rich text
                words = streamed(part.markdown)
                await self.calls.do("chat_update", deadline, **where, markdown_text=words, metadata=metadata)
                return True
            if refusal.code not in GONE:
                raise
            if refusal.code == "message_not_found" or await self._remove(place, shown, ts, deadline):
                await journal.add(**{"not": "show"})  # else it stays as it is, above the reply
            return False
        return True

    async def _stop(
        self, shown: Shown, where: dict[str, Any], part: Part, metadata: dict[str, Any], deadline: float
    ) -> bool:
        """End the stream; true when the message then has the final words."""
        final = streamed(part.markdown)
        begun = shown.sent and shown.sure and digest(final[: shown.sent]) == shown.sum
        rest = {"markdown_text": final[shown.sent :]} if begun and final[shown.sent :] else {}
        try:
            await self.calls.do("chat_stopStream", deadline, **where, **rest, metadata=metadata)
        except (NotDone, Never):
            return False  # Slack ends streams by itself, or an attempt before did; an open one refuses the edit
        return bool(begun)

    async def _remove(self, place: SlackPlace, shown: Shown, ts: str, deadline: float) -> bool:
        """False: Slack does not let us. Errors: those of `Calls.do` that another attempt may mend."""
        where = {"channel": place.channel, "ts": ts}
        if shown.how == NATIVE:
            with suppress(NotDone, Never):  # it has ended already
                await self.calls.do("chat_stopStream", deadline, **where)
        try:
            await self.calls.do("chat_delete", deadline, **where)
        except (Limited, Unreached):
            raise
        except (NotDone, Never) as refusal:
            return refusal.code == "message_not_found"  # an attempt before has done it, or a person
        return True

    async def _shown_at(
        self, place: SlackPlace, journal: Journal, shown: Shown, metadata: dict[str, Any], deadline: float
    ) -> str:
        """A message that a streamer began before it died. Slack takes no metadata where a stream starts: that one
        is ours, has none, and begins as it did. Empty when there is none."""
        if shown.ts:
            return shown.ts
        await self._lookup.settle(shown.at, deadline)
        me = await self.calls.me(deadline)

        def is_it(message: dict[str, Any]) -> bool:
            if has(message, metadata):
                return True
            begins = is_begun_with(str(message.get("text", "")), shown.begun)
            return shown.how == NATIVE and is_of(message, me) and not message.get("metadata") and begins

        found = await self._lookup.find(place, shown.at, is_it, deadline)
        await journal.add(**({"did": "show", "ts": found} if found else {"not": "show"}))
        return found


def check_host(web: AsyncWebClient, settings: SlackSettings) -> None:
    """The bot token goes to the configured server only. Errors: ValueError."""
    if web.base_url.rstrip("/") != settings.api_url.rstrip("/"):
        raise ValueError(f"a client of {web.base_url} would get the token for {settings.api_url}: set slack.api_url")


def journal_of(session: str, place: str, reply: str) -> str:
    """The name of a reply's journal."""
    return digest(session, place, reply)


def where_in(place: SlackPlace) -> dict[str, Any]:
    """For `chat.postMessage`."""
    return {"channel": place.channel, **({"thread_ts": place.thread} if place.thread else {})}


def metadata_of(session: str, reply: str, part: int) -> dict[str, Any]:
    """What each message carries. Other apps of the workspace can read it: it names no session."""
    payload = {"reply": reply, "part": part, "session": digest(session)[:16]}
    return {"event_type": EVENT_TYPE, "event_payload": payload}


def is_of(message: dict[str, Any], me: tuple[str, str]) -> bool:
    """Whether the app said it; `me` as `Calls.me` gives it."""
    return message.get("user") == me[0] or bool(me[1] and message.get("bot_id") == me[1])


def has(message: dict[str, Any], metadata: dict[str, Any]) -> bool:
    """Whether the message is that part of that reply."""
    found = cast(dict[str, Any], message.get("metadata") or {})
    return found.get("event_type") == EVENT_TYPE and found.get("event_payload") == metadata["event_payload"]

"""Replies into Slack, each message once as people see it, whatever dies on the way.

Before a message is posted the journal says so, synced; each message carries the reply's id and the part's number as
Slack metadata. An attempt that finds a post begun and not recorded looks it up in Slack, and posts only what is not
there. An answer that is being shown while it is written becomes the reply where it stands (`posting_shown`).
"""

import asyncio
import time
from typing import Any

import structlog
from slack_sdk.web.async_client import AsyncWebClient

from agent_session.client import SessionClient
from agent_session.domain.outbound import CARD, Outbound
from agent_session.settings_channels import SlackSettings
from agent_session.transcript.volume import Volume
from channels.slack.mrkdwn import escape
from channels.slack.outbox import Journal, Outbox, digest
from channels.slack.places import SlackPlace
from channels.slack.posting_calls import Limited, Never, NotDone, Unreached, calls_of
from channels.slack.posting_cards import OF_BLOCKS, Cards, NotKnown
from channels.slack.posting_files import Sharing
from channels.slack.posting_lookup import Lookup, has, metadata_of
from channels.slack.posting_parts import Part, parts_of
from channels.slack.posting_shown import ShownAnswer

ATTEMPT_S = 11.0  #: below the time-out of the activity that posts, `operations.deliver_timeout_s`
LOCK_S = 7.0  #: as long as another attempt may need for the call that it is in
SETTLE_S = 2.0  #: a post may still be under way to Slack that long after it was begun
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
        ts = ""
        if number == 1 and journal.progress.shown is not None:
            answer = ShownAnswer(self.calls, self._lookup, place, journal, journal.progress.shown, metadata, deadline)
            ts = await answer.find()
            if ts and await answer.becomes(ts, part):
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

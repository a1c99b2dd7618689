"""From what Slack tells to messages of a session.

`take` returns once Temporal has accepted the message, and only then is Slack told that it arrived; whatever fails
raises, and Slack delivers again. The id of a message is its team, channel and ts, so that however often and to
however many replicas it is delivered, it is one message (I1). Who speaks is who Slack says (I10).
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import structlog
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from agent_session.client import NoSuchSession, SessionClient
from agent_session.client_types import NoSuchMessage, ReplyPending
from agent_session.domain.commands import STOP
from agent_session.domain.messages import COLLECT, STEER, Attachment, InboundMessage
from agent_session.settings import Settings
from agent_session.waiting import Waiter
from channels.slack import heard, pairing
from channels.slack.events import Deleted, Edited, Json, Said, Stopped, files_of, mappings, read
from channels.slack.files import Files, NoFile, SharedFile
from channels.slack.markup import mentioned, plain, without_own_name
from channels.slack.people import People, Person
from channels.slack.places import NAME, SlackPlace
from channels.slack.web import PASSING, Me, error_of
from channels.slack.whereabouts import Whereabouts, joins

REMEMBERED = 2_000  #: messages that were accepted here, so that Slack's second copy costs nothing
CLIENTS_KEPT = 200
SEND_S = 10.0
LAST_ATTEMPT = 3  #: after it Slack gives up
KEEP_TRYING_S, AGAIN_S, KEPT = 3_600.0, 5.0, 1_000  #: what Slack has given up, from memory
PENDING_S = 1.5  #: to find out whether a message still waits
QUOTE_CHARS = 60
NO_WORDS = "(mentioned you, without words)"

log = structlog.get_logger("agent_session.slack")


class Inbound:
    """One workspace's way in. Any number of replicas may run. `expect(session, place, scoped id)` hears of each
    message that was accepted: its answer may be shown while it is written."""

    def __init__(
        self, web: AsyncWebClient, client: SessionClient, me: Me, expect: Callable[[str, str, str], None] | None = None
    ) -> None:
        self.web, self.me, self._expect = web, me, expect
        self.settings: Settings = client.settings
        self.people = People(web, client.volume, self.settings.slack, me)
        self.volume = client.volume
        self._client = client
        self.where = Whereabouts(web, self.settings.slack, me)
        self._files = Files(web, self.settings.slack)
        self._waiter = Waiter(client.temporal, client.volume)
        self._clients: OrderedDict[str, SessionClient] = OrderedDict()
        self._accepted: OrderedDict[str, None] = OrderedDict()
        self._kept: set[asyncio.Task[None]] = set()
        self._order: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        if me.lacking:
            log.error("Slack has not granted all that is needed", reason=me.lacking)

    async def take(self, event: Json, attempt: int = 0) -> None:
        """One event; `attempt` counts Slack's retries. Errors: any; then it was not accepted."""
        if heard.is_test(event, self.me.user):
            await asyncio.to_thread(heard.note, self.volume, str(event.get("ts") or ""))
            return
        found = read(event)
        if found is None:
            return
        if isinstance(found, Stopped):
            await self._hear_stop(found)  # at once, whatever is being taken in
            return
        try:
            await self._in_order(found, attempt)
        except Exception:
            if attempt >= LAST_ATTEMPT:  # Slack does not come again: it is ours to keep, while we live
                self._keep_trying(found)
            raise

    async def _in_order(self, found: Said | Edited | Deleted, attempt: int) -> None:
        """Each event has a task of its own: what people say in one conversation keeps its order."""
        lock = self._order.setdefault(_of(found).channel, asyncio.Lock())
        async with lock:
            if isinstance(found, Said):
                await self._hear(found, attempt)
            elif isinstance(found, Edited):
                await self._hear_edit(found, attempt)
            else:
                await self._hear_deletion(found)

    def _keep_trying(self, found: Said | Edited | Deleted) -> None:
        if len(self._kept) >= KEPT:
            log.error("a message is lost: too many wait already", channel=_of(found).channel)
            return
        task = asyncio.create_task(self._try_for_long(found))
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    async def _try_for_long(self, found: Said | Edited | Deleted) -> None:
        deadline = time.monotonic() + KEEP_TRYING_S
        while time.monotonic() < deadline:
            await asyncio.sleep(AGAIN_S)
            try:
                await self._in_order(found, LAST_ATTEMPT)
                return
            except Exception as error:
                log.warning("still not accepted; trying on", channel=_of(found).channel, error=type(error).__name__)
        log.error("a message is lost: it could not be handed over for an hour", channel=_of(found).channel)

    # --- who ---

    def client_of(self, person: Person) -> SessionClient:
        """The client that speaks for a person: their principal and their grants."""
        found = self._clients.pop(person.principal, None)
        if found is None:
            found = SessionClient(
                self._client.temporal, self.settings, channel=NAME, principal=person.principal, waiter=self._waiter
            )
            while len(self._clients) >= CLIENTS_KEPT:
                self._clients.popitem(last=False)
        found.grants = person.grants
        self._clients[person.principal] = found
        return found

    # --- what ---

    async def _hear(self, said: Said, attempt: int, *, note: str = "") -> None:
        person = await self.people.person(said.user)
        if person is None:
            if said.is_direct:
                await self._offer_pairing(said)
            return
        if self.where.is_meant(said):
            await self._send(said, person, attempt, note=note)

    async def _hear_edit(self, edit: Edited, attempt: int) -> None:
        """An edit is a message of its own that says so. One that makes it a message for the app is that message."""
        if edit.is_late:
            return
        was_meant = self.where.is_meant(edit.before)
        await self._hear(edit.now, attempt, note="(edited) " if was_meant else "")

    async def _hear_deletion(self, deletion: Deleted) -> None:
        """Said to the session while the message still waits or is worked on; afterwards there is nothing to stop."""
        said = deletion.said
        person = await self.people.person(said.user)
        if person is None or not self.where.is_meant(said):
            return
        words = await self._words(said)
        place = await self.where.place(said, adds=joins(words))
        client, key = self.client_of(person), await self.where.session(said, person, place)
        scoped = InboundMessage(id=self._id(said), channel=NAME, principal=person.principal).scoped
        try:
            await client.await_reply_to(key, scoped, timeout_s=PENDING_S)
            return
        except NoSuchMessage:
            return
        except ReplyPending:
            pass
        quoted = words if len(words) <= QUOTE_CHARS else f"{words[:QUOTE_CHARS]}…"
        text = f"(deleted) I have deleted my message “{quoted}”: disregard it."
        how: dict[str, Any] = {"mode": STEER, "reply_address": place.address, "timeout_s": SEND_S}
        await client.send(key, text, id=f"{self._id(said)}/deleted", **how)

    async def _hear_stop(self, stop: Stopped) -> None:
        """Slack's own Stop is `/stop`, said in that thread."""
        person = await self.people.person(stop.user)
        if person is None or not self.where.is_heard(stop.channel):
            return
        key = await self.where.session_of(stop.channel, stop.user, stop.thread, owner=person.owner)
        place = SlackPlace(self.me.team, stop.channel, stop.thread).address
        name = f"{self.me.team}/stop/{stop.channel}/{stop.ts}"
        how: dict[str, Any] = {"id": name, "reply_address": place, "start": False, "timeout_s": SEND_S}
        try:
            await self.client_of(person).send(key, f"/{STOP}", sender=await self.people.name(stop.user), **how)
        except NoSuchSession:
            log.info("there is no session to stop", session=key)

    def _id(self, said: Said, note: str = "") -> str:
        plain_id = f"{self.me.team}/{said.channel}/{said.ts}"
        return f"{plain_id}/{said.edited}" if note else plain_id

    async def _send(self, said: Said, person: Person, attempt: int, *, note: str) -> None:
        name = self._id(said, note)
        if name in self._accepted:
            return
        said = await self._whole(said, attempt)
        client, words, mode = self.client_of(person), await self._words(said), COLLECT
        place = await self.where.place(said, adds=joins(words))
        key = await self.where.session(said, person, place)
        if joins(words) and not note:
            words, mode = words[1:].lstrip(), STEER
        attached, missing = await self._attached(client, key, said, attempt) if not note else ([], [])
        text = "\n".join(part for part in (f"{note}{words}", *missing) if part)
        how: dict[str, Any] = {"id": name, "mode": mode, "reply_address": place.address}
        try:
            receipt = await client.send(
                key,
                text or ("" if attached else NO_WORDS),
                sender=await self.people.name(said.user),
                attachments=attached,
                timeout_s=SEND_S,
                **how,
            )
            if self._expect is not None:
                self._expect(receipt.session, place.text, receipt.scoped)
        except ValueError as error:  # no later attempt would do better
            log.warning("a message could not be taken", id=name, error=str(error)[:300])
            await self.tell(said.channel, said.user, f"I could not take that: {error}", said.thread)
        self._accepted[name] = None
        while len(self._accepted) > REMEMBERED:
            self._accepted.popitem(last=False)

    async def _whole(self, said: Said, attempt: int) -> Said:
        """A mention with its files: Slack leaves them out of `app_mention`, and the `message` that has them may come
        later, or never. Errors: those that may pass."""
        if not said.bare:
            return said
        try:
            answer: Any = await self.web.conversations_replies(
                channel=said.channel,
                ts=said.thread or said.ts,
                oldest=said.ts,
                latest=said.ts,
                inclusive=True,
                limit=2,
            )
        except SlackApiError as error:
            if error_of(error) in PASSING:
                raise
            return said  # without the right to read there, words are all there is
        found = next((one for one in mappings(answer["messages"]) if one.get("ts") == said.ts), None)
        if found is None and not attempt:
            raise LookupError("Slack does not show the message yet")
        return replace(said, files=files_of(found or {}), bare=False)

    async def _words(self, said: Said) -> str:
        text = without_own_name(said.text, self.me.user)
        return plain(text, await self.people.names(mentioned(text))).strip()

    async def _attached(
        self, client: SessionClient, key: str, said: Said, attempt: int
    ) -> tuple[list[Attachment], list[str]]:
        """What was shared, and a line for each file that could not be had."""
        attached: list[Attachment] = []
        missing: list[str] = []
        for shared in said.files:
            name = str(shared.get("name") or "a file")[:100]
            try:
                file = await self._files.fetch(shared)
            except NoFile as error:
                missing.append(f"(The file {name!r} did not arrive: {error}.)")
                continue
            except Exception as error:
                if attempt < LAST_ATTEMPT:
                    raise
                log.warning("a file could not be fetched", error=type(error).__name__)
                missing.append(f"(The file {name!r} did not arrive: it could not be fetched.)")
                continue
            name, kind = _fitting(file, of=len(said.files))
            attached.append(await client.attach(key, file.data, name, kind))
        return attached, missing

    # --- strangers ---

    async def _offer_pairing(self, said: Said) -> None:
        """A code, and nothing else; seldom."""
        code = await asyncio.to_thread(pairing.offer, self.volume, said.user, await self.people.name(said.user))
        if not code:
            return
        words = (
            f"I do not know you yet. Your pairing code is `{code}`, good for an hour. "
            f"Whoever runs me lets you in with: agent-session channels pair approve {code}"
        )
        place = await self.where.place(said)
        thread: dict[str, Any] = {"thread_ts": place.thread} if place.thread else {}
        await self.web.chat_postMessage(
            channel=said.channel, text=words, unfurl_links=False, unfurl_media=False, **thread
        )
        await asyncio.to_thread(pairing.shown, self.volume, said.user)
        log.info("a stranger was shown a pairing code", user=said.user)

    async def tell(self, channel: str, user: str, text: str, thread: str = "") -> None:
        """Words that only that person sees. That they cannot be shown is no reason to fail."""
        more: dict[str, Any] = {"thread_ts": thread} if thread else {}
        try:
            await self.web.chat_postEphemeral(channel=channel, user=user, text=text, **more)
        except Exception as error:
            log.warning("a word to one person could not be shown", user=user, error=str(error)[:200])


def _of(found: Said | Edited | Deleted) -> Said:
    if isinstance(found, Said):
        return found
    return found.now if isinstance(found, Edited) else found.said


def _fitting(file: SharedFile, *, of: int) -> tuple[str, str]:
    """Name and media type: those of ten files, Slack's limit, must fit one signal."""
    many = of > 5
    stem, dot, end = file.name.rpartition(".")
    longest = 24 if many else 60
    name = file.name if len(file.name) <= longest else f"{stem[: longest - 12]}{dot}{end[:10]}"
    return name, "application/octet-stream" if many and len(file.kind) > 40 else file.kind

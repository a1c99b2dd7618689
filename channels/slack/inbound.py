"""From what Slack tells to messages of a session.

`take` returns once Temporal has accepted the message, and only then is Slack told that it arrived; whatever fails
raises, and Slack delivers again. The id of a message is its team, channel and ts, so that however often and to
however many replicas it is delivered, it is one message (I1). Who speaks is who Slack says (I10).
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import structlog
from slack_sdk.web.async_client import AsyncWebClient

from agent_session.client import SessionClient
from agent_session.client_types import NoSuchMessage, ReplyPending
from agent_session.domain.messages import COLLECT, STEER, Attachment, InboundMessage
from agent_session.settings import Settings
from agent_session.waiting import Waiter
from channels.routing import Place, Routes
from channels.slack import pairing
from channels.slack.events import Deleted, Edited, Json, Said, read
from channels.slack.files import Files, NoFile, SharedFile
from channels.slack.markup import mentioned, plain, without_own_name
from channels.slack.people import People, Person
from channels.slack.places import NAME, SlackPlace
from channels.slack.web import Me

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
        self._routes = Routes(self.settings.slack.routes)
        self._files = Files(web, self.settings.slack)
        self._waiter = Waiter(client.temporal, client.volume)
        self._clients: OrderedDict[str, SessionClient] = OrderedDict()
        self._accepted: OrderedDict[str, None] = OrderedDict()
        self._kept: set[asyncio.Task[None]] = set()
        self._order: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def take(self, event: Json, attempt: int = 0) -> None:
        """One event; `attempt` counts Slack's retries. Errors: any; then it was not accepted."""
        found = read(event)
        if found is None:
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

    # --- where, and who ---

    def session_of(self, channel: str, user: str, thread: str, *, owner: bool) -> str:
        """The session that a place belongs to (docs/channels.md)."""
        direct = channel.startswith("D")
        parts = {"team": self.me.team, "channel": channel, "user": user, "thread": thread}
        kind = "dm" if direct else "thread" if thread else "channel"
        return self._routes.session_of(Place(channel=NAME, kind=kind, parts=parts, owner=owner))

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

    def is_heard(self, channel: str) -> bool:
        return channel.startswith("D") or channel in self.settings.slack.allowed_channels

    def _is_meant(self, said: Said) -> bool:
        """In a channel only what mentions the app, in threads too."""
        return said.is_direct or (self.is_heard(said.channel) and self.me.user in mentioned(said.text))

    def _place(self, said: Said) -> SlackPlace:
        thread = said.thread or ("" if said.is_direct else said.ts)
        return SlackPlace(self.me.team, said.channel, thread)

    def _session(self, said: Said, person: Person) -> str:
        return self.session_of(said.channel, said.user, self._place(said).thread, owner=person.owner)

    # --- what ---

    async def _hear(self, said: Said, attempt: int, *, note: str = "") -> None:
        person = await self.people.person(said.user)
        if person is None:
            if said.is_direct:
                await self._offer_pairing(said)
            return
        if self._is_meant(said):
            await self._send(said, person, attempt, note=note)

    async def _hear_edit(self, edit: Edited, attempt: int) -> None:
        """An edit is a message of its own that says so. One that makes it a message for the app is that message."""
        if edit.is_late:
            return
        was_meant = self._is_meant(edit.before)
        await self._hear(edit.now, attempt, note="(edited) " if was_meant else "")

    async def _hear_deletion(self, deletion: Deleted) -> None:
        """Said to the session while the message still waits or is worked on; afterwards there is nothing to stop."""
        said = deletion.said
        person = await self.people.person(said.user)
        if person is None or not self._is_meant(said):
            return
        client, key = self.client_of(person), self._session(said, person)
        scoped = InboundMessage(id=self._id(said), channel=NAME, principal=person.principal).scoped
        try:
            await client.await_reply_to(key, scoped, timeout_s=PENDING_S)
            return
        except NoSuchMessage:
            return
        except ReplyPending:
            pass
        words = await self._words(said)
        quoted = words if len(words) <= QUOTE_CHARS else f"{words[:QUOTE_CHARS]}…"
        text = f"(deleted) I have deleted my message “{quoted}”: disregard it."
        place = self._place(said).address
        await client.send(key, text, id=f"{self._id(said)}/deleted", mode=STEER, reply_address=place, timeout_s=SEND_S)

    def _id(self, said: Said, note: str = "") -> str:
        plain_id = f"{self.me.team}/{said.channel}/{said.ts}"
        return f"{plain_id}/{said.edited}" if note else plain_id

    async def _send(self, said: Said, person: Person, attempt: int, *, note: str) -> None:
        name = self._id(said, note)
        if name in self._accepted:
            return
        key, client, words = self._session(said, person), self.client_of(person), await self._words(said)
        mode = COLLECT
        if words.startswith("!") and words[1:].strip() and not note:
            words, mode = words[1:].lstrip(), STEER
        attached, missing = await self._attached(client, key, said, attempt) if not note else ([], [])
        text = "\n".join(part for part in (f"{note}{words}", *missing) if part)
        place = self._place(said)
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
        thread: dict[str, Any] = {"thread_ts": said.thread} if said.thread else {}
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

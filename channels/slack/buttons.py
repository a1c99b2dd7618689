"""Presses of a card's buttons: decisions of people who may decide; of others, a refusal that is recorded.

A decision is signed for that person and bound to what the card showed; the session checks both again before the
effect (I10). Who decided is then written on the card.
"""

import asyncio
import time
from weakref import WeakValueDictionary

import structlog

from agent_session.client import NoSuchSession, SessionClient
from agent_session.domain.cards import code_of
from channels.slack.cards import Choice, choice_of, decided, still_asks
from channels.slack.events import Json, mapping, mappings
from channels.slack.inbound import SEND_S, Inbound
from channels.slack.people import Person
from channels.slack.posting_calls import calls_of

MARK_S = 60.0  #: to write on a card who decided, however often Slack says not now
LOOK_S = 1.5  #: to see whether the call still waits: Slack shows an error after 3 s

log = structlog.get_logger("agent_session.slack")


class Buttons:
    """Of one process."""

    def __init__(self, inbound: Inbound) -> None:
        self._inbound = inbound
        self._calls = calls_of(inbound.web)
        self._cards: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._marking: set[asyncio.Task[None]] = set()

    async def take_press(self, payload: Json) -> None:
        """Errors: any; then nothing was decided, and Slack tells the person so."""
        if payload.get("type") != "block_actions":
            return
        user = str(mapping(payload.get("user")).get("id") or "")
        for action in mappings(payload.get("actions")):
            choice = choice_of(str(action.get("action_id") or ""), str(action.get("value") or ""))
            if user and choice is not None:
                await self._decide(user, choice, payload, str(action.get("action_ts") or ""))

    async def _decide(self, user: str, choice: Choice, payload: Json, pressed: str) -> None:
        person = await self._inbound.people.person(user)
        if person is None or not person.decides:
            await self._refuse(user, person, choice, payload, pressed)
            return
        client = self._inbound.client_of(person)
        try:
            if not await _waits(client, choice):
                await self._tell(
                    user, payload, "That call does not wait any more: it was decided, or its turn is over."
                )
                return
            await client.resolve(choice.session, choice.call, choice.digest, choice.decision, pattern=choice.pattern)
        except NoSuchSession:
            await self._tell(user, payload, "That session does not live any more; nothing was decided.")
            return
        log.info("a call was decided", user=user, call=choice.call, decision=choice.decision)
        task = asyncio.create_task(self._mark(payload, user, choice))  # Slack waits for us: later will do
        self._marking.add(task)
        task.add_done_callback(self._marking.discard)

    async def _refuse(self, user: str, person: Person | None, choice: Choice, payload: Json, pressed: str) -> None:
        """The session hears of it too, as of a command by somebody without the grant, which it refuses."""
        log.warning("a decision by somebody who may not decide", user=user, call=choice.call, session=choice.session)
        await self._tell(user, payload, "You may not decide on tool calls here.")
        tried = person or Person(user, f"slack:{self._inbound.me.team}:{user}")
        code = code_of({"call": choice.call, "digest": choice.digest})
        word = "allow" if choice.decision == "allow" else "deny"
        try:
            await self._inbound.client_of(tried).send(
                choice.session, f"/{word} {code}", id=f"press/{user}/{pressed}", start=False, timeout_s=SEND_S
            )
        except NoSuchSession:
            pass

    async def _mark(self, payload: Json, user: str, choice: Choice) -> None:
        """Write on the card who decided. It is decorative: the decision stands without."""
        channel, ts, _ = _where(payload)
        lock = self._cards.setdefault(f"{channel}/{ts}", asyncio.Lock())
        async with lock:
            try:
                message = await self._card_now(payload)
                if still_asks(message, choice):
                    words = decided(message, user, choice)
                    await self._calls.do("chat_update", time.monotonic() + MARK_S, channel=channel, ts=ts, **words)
            except Exception as error:
                log.warning("a card could not be marked", call=choice.call, error=str(error)[:200])

    async def _card_now(self, payload: Json) -> Json:
        """Another of its calls may have been decided since it was shown to who pressed."""
        channel, ts, thread = _where(payload)
        only = {"oldest": ts, "latest": ts, "inclusive": True, "limit": 2}
        deadline = time.monotonic() + MARK_S
        found = await self._calls.do("conversations_replies", deadline, channel=channel, ts=thread or ts, **only)
        return next(
            (one for one in mappings(found.get("messages")) if one.get("ts") == ts), mapping(payload.get("message"))
        )

    async def _tell(self, user: str, payload: Json, text: str) -> None:
        channel, _, thread = _where(payload)
        await self._inbound.tell(channel, user, text, thread)


async def _waits(client: SessionClient, choice: Choice) -> bool:
    """Whether the session still asks about this; true when it does not say in time. Errors: NoSuchSession."""
    try:
        async with asyncio.timeout(LOOK_S):
            status = await client.status(choice.session)
    except TimeoutError:
        return True
    if status.answered_by != "worker":
        return True
    asked = (choice.call, choice.digest)
    return any(tool.state == "asks" and (tool.call, tool.digest) == asked for tool in status.tools)


def _where(payload: Json) -> tuple[str, str, str]:
    """Channel, ts of the card, and the thread that it stands in."""
    message, container = mapping(payload.get("message")), mapping(payload.get("container"))
    channel = mapping(payload.get("channel")).get("id") or container.get("channel_id") or ""
    ts = message.get("ts") or container.get("message_ts") or ""
    return str(channel), str(ts), str(message.get("thread_ts") or container.get("thread_ts") or "")

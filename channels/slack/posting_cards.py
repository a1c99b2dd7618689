"""Cards as they are delivered: with buttons for the calls that still wait, and never lost.

Whoever asked may lack the grant to decide: then the card names who may, and the first owner gets it, too. A card that
Slack refuses is posted as words.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace

from agent_session.client import NoSuchSession, SessionClient
from agent_session.domain.outbound import Outbound
from agent_session.settings_channels import SlackSettings
from agent_session.transcript.reader import backwards
from channels.slack.cards import calls_of_card, card_blocks, note
from channels.slack.outbox import Journal
from channels.slack.places import NAME, SlackPlace
from channels.slack.posting_calls import Calls, NotDone
from channels.slack.posting_parts import Part, card_part, parts_of

PATIENCE_S = 30.0  #: how long a card waits for the session to say which calls wait
TURN_CHARS = 18  #: of a turn's id, with which a card's name begins
NAMED = 5  #: owners
IN_SLACK = "In Slack: `@agent /allow CODE`; outside of threads `/agent allow CODE`, too."
#: what Slack says of a card that it does not show; as words it does
OF_BLOCKS = ("invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long", "no_text")


class NotKnown(NotDone):
    """Nobody says yet which calls wait."""


class Cards:
    """One object a process."""

    def __init__(self, calls: Calls, client: SessionClient | None, settings: SlackSettings) -> None:
        self._calls, self._client, self._owners = calls, client, settings.owners
        self._direct = ""  #: the conversation with the first owner, once known

    async def parts(self, out: Outbound, journal: Journal, *, copy: bool) -> list[Part]:
        """When nothing of it waits any more, the words without buttons; of a copy then nothing. Errors: NotKnown,
        VolumeUnavailable."""
        if journal.progress.in_words:
            *words, last = parts_of(out)
            return [*words, replace(last, text=f"{last.text}\n{IN_SLACK}")]
        if 1 in journal.progress.posted and journal.progress.of == 1:
            return []
        calls, known = await self._waiting(out)
        if not known and time.time() - journal.progress.first_at < PATIENCE_S:
            raise NotKnown("card", "no worker says which calls wait")
        if not calls:
            return [] if copy and known else parts_of(out)
        who = [] if await self._may_decide(out) else [note(self._owners[:NAMED], out.session)]
        return [card_part(out, [*card_blocks(calls, out.session), *who])]

    async def copy(self, out: Outbound, place: SlackPlace, deadline: float) -> Outbound | None:
        """The same card for the first owner, where who asked may not decide and the owner does not read it anyway.
        Errors: those of `Calls.do`, VolumeUnavailable."""
        if not self._owners or self._client is None or await self._may_decide(out):
            return None
        if not self._direct:
            opened = await self._calls.do("conversations_open", deadline, users=self._owners[0])
            self._direct = str(opened["channel"]["id"])
        if self._direct == place.channel:
            return None
        return replace(out, place=SlackPlace(place.team, self._direct).text)

    async def _waiting(self, out: Outbound) -> tuple[list[Mapping[str, str]], bool]:
        """What of the card still waits, and whether a worker says so."""
        if self._client is None:
            return [], True
        try:
            status = await self._client.status(out.session)
        except NoSuchSession:
            return [], True
        waiting = await asyncio.to_thread(self._client.waiting_calls, out.session, status)
        return calls_of_card(waiting, out.reply), status.answered_by != "server"

    async def _may_decide(self, out: Outbound) -> bool:
        """Whether who asked is an owner; what nobody in Slack asked (a schedule) is nobody's to decide there."""
        assert self._client is not None
        said = await asyncio.to_thread(_principals, self._client, out.session, out.reply[:TURN_CHARS])
        return bool(said) and all(one.startswith(f"{NAME}:") and one.split(":")[-1] in self._owners for one in said)


def _principals(client: SessionClient, session: str, turn: str) -> set[str]:
    """Who said what the turn answers; empty for nobody."""
    found: set[str] = set()
    for line in backwards(client.volume, session):
        if line.get("turn") != turn:
            if found:
                break
            continue
        if line.get("role") == "user":
            found.add(str(line.get("principal", "")))
    return found - {""}

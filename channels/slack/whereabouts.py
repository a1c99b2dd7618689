"""Where what somebody says belongs: is it for the app, which session hears it, and where does its answer go."""

from typing import Any

from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from agent_session.domain.commands import command_of
from agent_session.domain.messages import InboundMessage
from agent_session.settings_channels import SlackSettings
from channels.routing import Place, Routes
from channels.slack.events import Said, mappings
from channels.slack.markup import mentioned, without_own_name
from channels.slack.people import Person
from channels.slack.places import NAME, SlackPlace
from channels.slack.web import PASSING, Me, error_of

BEFORE = 20  #: messages looked through for the one that `!` words belong to
GROUP, GROUPS = "group", "mpim:read"  #: the kind of a group's direct messages, and the right to know them


class Whereabouts:
    """Of one workspace."""

    def __init__(self, web: AsyncWebClient, settings: SlackSettings, me: Me) -> None:
        self._web, self._settings, self._me = web, settings, me
        self._routes = Routes(settings.routes)
        self._groups: dict[str, bool] = {}  #: conversations, and whether each is a group's direct messages; if asked

    def is_heard(self, channel: str) -> bool:
        return channel.startswith("D") or channel in self._settings.allowed_channels

    def is_meant(self, said: Said) -> bool:
        """In a channel only what mentions the app, in threads too."""
        return said.is_direct or (self.is_heard(said.channel) and self._me.user in mentioned(said.text))

    async def session(self, said: Said, person: Person, place: SlackPlace) -> str:
        """`place`: where its answer goes, so that what belongs to one thread is heard by one session."""
        return await self.session_of(said.channel, said.user, place.thread, owner=person.owner)

    async def session_of(self, channel: str, user: str, thread: str, *, owner: bool) -> str:
        """The session that a place belongs to (docs/channels.md). Errors: those of the Web API."""
        parts = {"team": self._me.team, "channel": channel, "user": user, "thread": thread}
        if channel.startswith("D"):
            kind = "dm"
        elif await self._is_group(channel):
            kind = GROUP
        else:
            kind = "thread" if thread else "channel"
        return self._routes.session_of(Place(channel=NAME, kind=kind, parts=parts, owner=owner))

    async def place(self, said: Said, *, adds: bool = False) -> SlackPlace:
        """Where its answer goes: the thread that it stands in, or the one that it begins. What joins a running turn
        goes to the thread of that person's message before, whose turn it most likely is."""
        thread = said.thread or said.ts
        if said.is_direct and not said.thread:
            if not self._settings.direct_threads:
                thread = ""
            elif adds:
                thread = await self._before(said) or said.ts
        return SlackPlace(self._me.team, said.channel, thread)

    async def _is_group(self, channel: str) -> bool:
        """Whether they are the direct messages of a group, where a route makes a difference of it. Slack says so of a
        message, not of a mention or a command, so it is asked: all replicas go by the same answer, whichever event
        they are told. It answers for groups alone (mpim:read), so a refusal means no; while the app lacks that right,
        nothing is a group."""
        if GROUP not in self._routes.kinds:
            return False
        if channel not in self._groups:
            try:
                answer: Any = await self._web.conversations_info(channel=channel)
            except SlackApiError as error:
                if error_of(error) in PASSING:
                    raise
                if GROUPS in self._me.lacks:
                    return False  # until it is given, which nobody tells us
                self._groups[channel] = False
            else:
                self._groups[channel] = bool(answer["channel"].get("is_mpim"))
        return self._groups[channel]

    async def _before(self, said: Said) -> str:
        """The ts of the last message before that is that person's, and opens a turn. Errors: those of the Web API
        that pass."""
        try:
            answer: Any = await self._web.conversations_history(channel=said.channel, latest=said.ts, limit=BEFORE)
        except SlackApiError as error:
            if error_of(error) in PASSING:
                raise
            return ""
        older = [one for one in mappings(answer["messages"]) if one.get("user") == said.user and one["ts"] < said.ts]
        return next((str(one["ts"]) for one in older if self._opens_a_turn(str(one.get("text") or ""))), "")

    def _opens_a_turn(self, text: str) -> bool:
        """Neither a command nor words that join another."""
        words = without_own_name(text, self._me.user).strip()
        return not joins(words) and command_of(InboundMessage(id=NAME, channel=NAME, text=words)) is None


def joins(words: str) -> bool:
    """`! words` are for the turn that is running."""
    return words.startswith("!") and bool(words[1:].strip())

"""Where what somebody says belongs: is it for the app, which session hears it, and where does its answer go."""

from typing import Any

from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from agent_session.settings_channels import SlackSettings
from channels.routing import Place, Routes
from channels.slack.events import Said, mappings
from channels.slack.markup import mentioned
from channels.slack.people import Person
from channels.slack.places import NAME, SlackPlace
from channels.slack.web import PASSING, Me, error_of

BEFORE = 20  #: messages looked through for the one that `!` words belong to


class Whereabouts:
    """Of one workspace."""

    def __init__(self, web: AsyncWebClient, settings: SlackSettings, me: Me) -> None:
        self._web, self._settings, self._me = web, settings, me
        self._routes = Routes(settings.routes)
        self._groups: dict[str, bool] = {}  #: conversations, and whether each is a group's direct messages

    def is_heard(self, channel: str) -> bool:
        return channel.startswith("D") or channel in self._settings.allowed_channels

    def is_meant(self, said: Said) -> bool:
        """In a channel only what mentions the app, in threads too."""
        return said.is_direct or (self.is_heard(said.channel) and self._me.user in mentioned(said.text))

    async def session(self, said: Said, person: Person) -> str:
        if said.channel_type:
            self._groups[said.channel] = said.channel_type == "mpim"
        thread = said.thread if said.is_direct else said.thread or said.ts
        return await self.session_of(said.channel, said.user, thread, owner=person.owner)

    async def session_of(self, channel: str, user: str, thread: str, *, owner: bool) -> str:
        """The session that a place belongs to (docs/channels.md). Errors: those of the Web API."""
        parts = {"team": self._me.team, "channel": channel, "user": user, "thread": thread}
        if channel.startswith("D"):
            kind = "dm"
        elif await self._is_group(channel):
            kind = "group"
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
        """Whether they are the direct messages of a group. Slack says so of a message, not of a mention or a command:
        then it is asked, once. It answers for groups alone (mpim:read), which is the answer."""
        if channel not in self._groups:
            try:
                answer: Any = await self._web.conversations_info(channel=channel)
                self._groups[channel] = bool(answer["channel"].get("is_mpim"))
            except SlackApiError as error:
                if error_of(error) in PASSING:
                    raise
                self._groups[channel] = False
        return self._groups[channel]

    async def _before(self, said: Said) -> str:
        """The ts of the last message before that is that person's, and not said to join another. Errors: those of
        the Web API that pass."""
        try:
            answer: Any = await self._web.conversations_history(channel=said.channel, latest=said.ts, limit=BEFORE)
        except SlackApiError as error:
            if error_of(error) in PASSING:
                raise
            return ""
        older = [one for one in mappings(answer["messages"]) if one.get("user") == said.user and one["ts"] < said.ts]
        return next((str(one["ts"]) for one in older if not joins(str(one.get("text") or "").strip())), "")


def joins(words: str) -> bool:
    """`! words` are for the turn that is running."""
    return words.startswith("!") and bool(words[1:].strip())

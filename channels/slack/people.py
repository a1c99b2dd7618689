"""Who somebody is in Slack, and what they may do here. Authority is the id that Slack authenticated, never a
name (I10).

Owners may use the shell and decide on tool calls; people who are allowed or were paired are answered, and may say
the session's commands that need no grant (/status, /stop, /new, /model, /queue). Anybody else is a stranger.
"""

import asyncio
import time
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from agent_session.domain.authority import APPROVE_GRANT, SHELL_GRANT
from agent_session.settings_channels import SlackSettings
from agent_session.transcript.volume import Volume
from channels.slack.events import mapping
from channels.slack.pairing import is_paired
from channels.slack.web import Me, error_of

NAME_S = 3_600.0  #: how long a name is remembered
NAMES_KEPT = 5_000
NAME_CHARS = 80
#: without the scope users:read nobody has a name, which is no reason to answer nobody
UNKNOWN = ("user_not_found", "user_not_visible", "users_not_found", "missing_scope")


@dataclass(frozen=True)
class Person:
    """Somebody who is answered."""

    user: str
    principal: str
    grants: tuple[str, ...] = ()
    owner: bool = False

    @property
    def decides(self) -> bool:
        return APPROVE_GRANT in self.grants


class People:
    """Of one workspace; names are remembered for an hour."""

    def __init__(self, web: AsyncWebClient, volume: Volume, settings: SlackSettings, me: Me) -> None:
        self._web, self._volume, self._settings, self._me = web, volume, settings, me
        self._names: dict[str, tuple[float, str]] = {}
        self._direct: dict[str, str] = {}

    async def person(self, user: str) -> Person | None:
        """None for a stranger. Errors: VolumeUnavailable."""
        principal = f"slack:{self._me.team}:{user}"
        if user in self._settings.owners:
            return Person(user, principal, (APPROVE_GRANT, SHELL_GRANT), owner=True)
        if user in self._settings.allowed_users or await asyncio.to_thread(is_paired, self._volume, user):
            return Person(user, principal)
        return None

    async def name(self, user: str) -> str:
        """How Slack shows them; their id where Slack does not know them. Errors: those of the Web API."""
        known = self._names.get(user)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        try:
            answer: Any = await self._web.users_info(user=user)
            name = _shown(answer["user"]) or user
        except SlackApiError as error:
            if error_of(error) not in UNKNOWN:
                raise  # the same message must have the same words when it comes again
            name = user
        self._names[user] = time.monotonic() + NAME_S, name
        while len(self._names) > NAMES_KEPT:
            del self._names[next(iter(self._names))]
        return name

    async def names(self, users: Iterable[str]) -> dict[str, str]:
        return {user: await self.name(user) for user in users}

    async def direct(self, user: str) -> str:
        """The conversation between that person and the app. Errors: those of the Web API."""
        if user not in self._direct:
            answer: Any = await self._web.conversations_open(users=user)
            self._direct[user] = str(answer["channel"]["id"])
        return self._direct[user]


def _shown(user: dict[str, Any]) -> str:
    """A name to show, without line breaks or what is not to be seen."""
    profile = mapping(user.get("profile"))
    name = str(
        profile.get("display_name") or profile.get("real_name") or user.get("real_name") or user.get("name") or ""
    )
    return "".join(char for char in name if unicodedata.category(char)[0] != "C")[:NAME_CHARS].strip()

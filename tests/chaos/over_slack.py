"""People in Slack: a channel of Slack for each session, in it one thread, spoken to through a stand-in for Slack's
servers that lives with the senders. Slack keeps what nobody has acknowledged, and tells it again.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

from tests.chaos.plan import Said
from tests.fakes.slack import BOT, BOT_USER, FakeSlack, fake_slack

PERSON = "U1"
LOOK_S = 0.1
RETRIES = 100  #: an event is told again until it is acknowledged, however long that takes


class OverSlack:
    """`async with OverSlack(sessions)`: Slack, as long as a run lasts."""

    def __init__(self, sessions: Sequence[str]) -> None:
        self._channels = {name: f"C{name.upper()}" for name in sessions}
        self._threads: dict[str, str] = {}
        self._heard: dict[str, set[str]] = {name: set() for name in sessions}
        self._slack = FakeSlack()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "OverSlack":
        self._slack = await self._stack.enter_async_context(fake_slack())
        self._slack.events.retries = RETRIES
        for name, channel in self._channels.items():
            self._slack.workspace.channel(channel, name)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def environment(self) -> dict[str, str]:
        """Of every process of the service: tokens, and which thread is which session."""
        routes = {f"thread:{channel}": name for name, channel in self._channels.items()}
        given = self._slack.settings(owners=PERSON, allowed_channels=",".join(self._channels.values()))
        return {f"AGENT_SESSION_SLACK__{name.upper()}": value for name, value in given.items()} | {
            "AGENT_SESSION_SLACK__ROUTES": json.dumps(routes)
        }

    @property
    def canaries(self) -> list[str]:
        given = self._slack.settings()
        return [given[name] for name in ("bot_token", "app_token", "signing_secret")]

    def say(self, one: Said) -> None:
        """As a person does: Slack has it from then on. `again`: Slack tells it twice."""
        channel, thread = self._channels[one.session], self._threads.get(one.session, "")
        ts = self._slack.mentions(PERSON, one.text, channel=channel, thread=thread)
        self._threads.setdefault(one.session, ts)
        if one.again:
            event = next(envelope.payload["event"] for envelope in reversed(self._slack.events.envelopes))
            self._slack.events.emit(event)

    async def reply(self, one: Said) -> dict[str, Any]:
        """The next reply in the thread: a person says nothing more until it has come."""
        while True:
            for post in self._posts(one.session):
                if post["reply"] and post["reply"] not in self._heard[one.session]:
                    self._heard[one.session].add(post["reply"])
                    return post
            await asyncio.sleep(LOOK_S)

    def posts(self) -> Iterator[dict[str, Any]]:
        """All that the app said, for the evidence: each message with the reply that it says it is of."""
        for name in self._channels:
            yield from self._posts(name)

    def _posts(self, session: str) -> Iterator[dict[str, Any]]:
        for message in self._slack.workspace.all(self._channels[session]):
            if message.get("bot_id") == BOT or message.get("user") == BOT_USER:
                known = (message.get("metadata") or {}).get("event_payload") or {}
                reply, part = str(known.get("reply", "")), int(known.get("part", 0))
                yield {"session": session, "reply": reply, "part": part, "text": message["text"], "ts": message["ts"]}

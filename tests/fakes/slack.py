"""Slack, as a real HTTP and WebSocket server on loopback, spoken to by the unmodified slack_sdk.

    async with fake_slack() as slack:
        channel = slack.workspace.channel("C1")
        ts = slack.mentions("U1", "hello", channel=channel)
        await slack.until(lambda: slack.texts(channel, thread=ts))

What people do is told to the app over its sockets, or posted to `slack.events.url`. Tokens are checked,
every call is in `slack.calls()`, faults are asked for with `slack.fault`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.fakes.slack_events import COMMANDS, INTERACTIVE, Envelope, Events
from tests.fakes.slack_methods import Methods
from tests.fakes.slack_state import APP, BOT, BOT_USER, TEAM, File, Json, Workspace
from tests.fakes.slack_web import Call, Fault, WebApi

__all__ = ["BOT", "BOT_USER", "TEAM", "Envelope", "FakeSlack", "Fault", "File", "fake_slack"]

BOT_TOKEN, APP_TOKEN, SIGNING_SECRET = "xoxb-canary-key", "xapp-canary-key", "signing-canary-key"


class FakeSlack:
    """One workspace with its servers. People: U1 (ann), U2 (bob), U3 (eve); channels: C1, C2."""

    def __init__(self) -> None:
        self.url = ""
        self.workspace = Workspace()
        self.events = Events(SIGNING_SECRET)
        self.methods = Methods(self.workspace, self._echo, lambda path: self.url + path, self._socket_url)
        self.web = WebApi(self.workspace, self.methods, BOT_TOKEN, APP_TOKEN)
        self.echoes = True  #: the app is told of its own messages, too
        self.mention_events: Sequence[str] = ("message", "app_mention")  #: what a mention is told as, in that order
        for id, name in (("U1", "ann"), ("U2", "bob"), ("U3", "eve")):
            self.workspace.person(id, name)
        for id, name in (("C1", "general"), ("C2", "random")):
            self.workspace.channel(id, name)

    @property
    def api_url(self) -> str:
        return f"{self.url}/api/"

    def settings(self, **more: Any) -> Json:
        """For `slack` in the settings."""
        tokens = {"bot_token": BOT_TOKEN, "app_token": APP_TOKEN, "signing_secret": SIGNING_SECRET}
        return {**tokens, "api_url": self.api_url, **more}

    # --- what people do ---

    def says(
        self, user: str, text: str, *, channel: str = "", thread: str = "", files: Sequence[File] = (), **more: Any
    ) -> str:
        """A message, in the direct messages with the app when no channel is named. Returns its ts."""
        channel = channel or self.workspace.dm(user)
        fields: Json = {"user": user, "text": text, "client_msg_id": f"m-{self.workspace.number()}", **more}
        if thread:
            fields["thread_ts"] = thread
        if files:
            fields |= {"subtype": "file_share", "files": [file.shown() for file in files]}
        message = self.workspace.put(channel, fields)
        if f"<@{BOT_USER}>" not in text or self.workspace.place(channel).get("is_im"):
            self._tell(channel, message)
            return message["ts"]
        for kind in self.mention_events:  # Slack leaves the files out of `app_mention`
            more = {"type": kind, "subtype": None, "files": None} if kind == "app_mention" else {}
            self._tell(channel, {**message, **more})
        return message["ts"]

    def mentions(self, user: str, text: str, *, channel: str = "C1", thread: str = "", **more: Any) -> str:
        return self.says(user, f"<@{BOT_USER}> {text}", channel=channel, thread=thread, **more)

    def edits(self, ts: str, text: str) -> None:
        channel = self.workspace.channel_of(ts)
        message = self.workspace.need(channel, ts)
        before = dict(message)
        message |= {"text": text, "edited": {"user": message["user"], "ts": self.workspace.ts()}}
        changed = {"subtype": "message_changed", "message": dict(message), "previous_message": before}
        self._tell(channel, {"type": "message", "ts": self.workspace.ts(), **changed})

    def unfurls(self, ts: str) -> None:
        """Slack adds a preview: a change that is no edit."""
        channel = self.workspace.channel_of(ts)
        message = self.workspace.need(channel, ts)
        before = dict(message)
        message["attachments"] = [{"title": "a page", "from_url": "https://example.com"}]
        changed = {"subtype": "message_changed", "message": dict(message), "previous_message": before, "hidden": True}
        self._tell(channel, {"type": "message", "ts": self.workspace.ts(), **changed})

    def deletes(self, ts: str) -> None:
        channel = self.workspace.channel_of(ts)
        message = self.workspace.need(channel, ts)
        self.workspace.remove(channel, ts)
        gone = {"subtype": "message_deleted", "deleted_ts": ts, "previous_message": message, "hidden": True}
        self._tell(channel, {"type": "message", "ts": self.workspace.ts(), **gone})

    def stops(self, user: str, *, channel: str, thread: str) -> Envelope:
        """The Stop of a thread: Slack ends the streams there, and tells which."""
        growing = [one for one in self.workspace.thread(channel, thread) if one.get("streaming_state") == "in_progress"]
        for one in growing:
            one["streaming_state"] = "completed"
        event = {"type": "agent_session_stopped", "channel": channel, "thread_ts": thread, "user": user}
        streams = [one["ts"] for one in growing]
        return self.events.emit({**event, "streaming_message_ts": streams, "event_ts": self.workspace.ts()})

    def presses(self, user: str, button: str, *, ts: str = "") -> Envelope:
        """Presses a button of the newest message that has it (or of `ts`): by action id, value or label."""
        channel, message, element = self._button(button, ts)
        taken = ("action_id", "block_id", "type", "text", "value", "style")
        action = {name: value for name, value in element.items() if name in taken}
        action["action_ts"] = self.workspace.ts()
        container = {"type": "message", "message_ts": message["ts"], "channel_id": channel, "is_ephemeral": False}
        payload: Json = {
            "type": "block_actions", "api_app_id": APP, "token": "verification", "container": container,
            "user": {"id": user, "username": self.workspace.users[user]["name"], "team_id": TEAM},
            "team": {"id": TEAM, "domain": "fake"}, "channel": {"id": channel, "name": "directmessage"},
            "message": message, "actions": [action], "trigger_id": self._trigger(),
            "response_url": f"{self.url}/response/{self.workspace.number()}",
        }  # fmt: skip
        return self.events.tell(INTERACTIVE, payload)

    def slash(self, user: str, command: str, text: str = "", *, channel: str = "") -> Envelope:
        channel = channel or self.workspace.dm(user)
        payload: Json = {
            "token": "verification", "team_id": TEAM, "team_domain": "fake", "channel_id": channel,
            "channel_name": self.workspace.place(channel).get("name", "directmessage"), "user_id": user,
            "user_name": self.workspace.users[user]["name"], "command": command, "text": text, "api_app_id": APP,
            "response_url": f"{self.url}/response/{self.workspace.number()}", "trigger_id": self._trigger(),
        }  # fmt: skip
        return self.events.tell(COMMANDS, payload)

    def file(self, name: str, data: bytes, mimetype: str = "text/plain", **more: Any) -> File:
        """A file that can be shared with `says(…, files=[…])`; `more` replaces fields that Slack shows."""
        made = self.workspace.file(name, data, mimetype)
        made.url, made.more = f"{self.url}/files-pri/{TEAM}-{made.id}/{name}", more
        return made

    # --- faults ---

    def fault(self, method: str, error: str = "", **how: Any) -> None:
        """What the next call of a method meets; see `Fault`. Method `download`: a private file's address."""
        self.web.fault(method, Fault(error=error, **how))

    def no_faults(self) -> None:
        """Those that were asked for and have not been met."""
        self.web.clear_faults()

    def limit(self, method: str, retry_after: int = 1, times: int = 1) -> None:
        self.fault(method, status=429, retry_after=retry_after, times=times)

    def switch_off(self, *methods: str) -> None:
        """As a workspace that does not have them: `unknown_method`."""
        self.web.off.update(methods)

    def revoke(self, *tokens: str) -> None:
        self.web.revoked.update(tokens or (BOT_TOKEN, APP_TOKEN))

    def grant_again(self) -> None:
        self.web.revoked.clear()

    # --- what is to be seen ---

    def messages(self, channel: str, thread: str = "") -> list[Json]:
        """What stands in the conversation (not in threads), or in a thread: its replies. Oldest first."""
        if thread:
            return [one for one in self.workspace.thread(channel, thread) if one["ts"] != thread]
        return self.workspace.top(channel)

    def texts(self, channel: str, thread: str = "") -> list[str]:
        """What the app said there; in direct messages wherever in the conversation, when no thread is named."""
        direct = self.workspace.place(channel).get("is_im") and not thread
        found = self.workspace.all(channel) if direct else self.messages(channel, thread)
        return [one["text"] for one in found if one.get("bot_id") == BOT]

    def dm(self, user: str) -> str:
        return self.workspace.dm(user)

    def calls(self, method: str = "") -> list[Call]:
        return [call for call in self.web.calls if method in ("", call.method)]

    async def until(self, what: Callable[[], Any], timeout_s: float = 30) -> Any:
        """Wait until `what()` is true; returns it."""
        async with asyncio.timeout(timeout_s):
            while not (found := what()):
                await asyncio.sleep(0.02)
        return found

    # --- inside ---

    def _socket_url(self) -> str:
        return f"{self.url.replace('http', 'ws', 1)}/link?ticket={self.events.ticket()}"

    def _tell(self, channel: str, message: Json) -> None:
        place = self.workspace.place(channel)
        kind = "im" if place.get("is_im") else "mpim" if place.get("is_mpim") else "channel"
        event = {"event_ts": message["ts"], **message, "channel": channel, "channel_type": kind}
        if message.get("type") == "app_mention":
            del event["channel_type"]
        self.events.emit({name: value for name, value in event.items() if value is not None})

    def _echo(self, event: Json) -> None:
        if self.echoes and (self.events.connections or self.events.url):
            self._tell(event["channel"], event)

    def _trigger(self) -> str:
        return f"{int(time.time())}.{self.workspace.number()}.trigger"

    def _button(self, button: str, ts: str) -> tuple[str, Json, Json]:
        found: list[tuple[str, Json, Json]] = []
        for channel in self.workspace.channels:
            for message in self.workspace.all(channel):
                for block in message.get("blocks") or []:
                    for element in [*block.get("elements", []), block.get("accessory") or {}]:
                        label = (element.get("text") or {}).get("text") if element.get("type") == "button" else None
                        names = (element.get("action_id"), element.get("value"), label)
                        if element.get("type") == "button" and button in names and ts in ("", message["ts"]):
                            found.append((channel, message, {"block_id": block.get("block_id", ""), **element}))
        assert found, f"there is no button {button!r}"
        return max(found, key=lambda one: one[1]["ts"])


@asynccontextmanager
async def fake_slack() -> AsyncIterator[FakeSlack]:
    slack = FakeSlack()
    app = web.Application(client_max_size=128 * 1024 * 1024)
    app.add_routes([*slack.web.routes(), *slack.events.routes()])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    slack.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield slack
    finally:
        await slack.events.stop()
        await runner.cleanup()

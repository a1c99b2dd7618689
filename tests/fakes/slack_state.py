"""What a Slack workspace holds: people, conversations, messages, files. No HTTP here."""

import itertools
import time
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

TEAM, APP, BOT_USER, BOT = "T0TEAM", "A0APP", "U0AGENT", "B0AGENT"


class SlackError(Exception):
    """An answer `{"ok": false, "error": …}`."""

    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.code, self.more = code, more


@dataclass
class File:
    """A file that a person shared or the app uploads."""

    id: str
    name: str
    data: bytes = b""
    mimetype: str = "application/octet-stream"
    url: str = ""
    more: Json = field(default_factory=dict)  #: fields that a test wants otherwise

    def shown(self) -> Json:
        return {
            "id": self.id,
            "name": self.name,
            "title": self.name,
            "mimetype": self.mimetype,
            "size": len(self.data),
            "mode": "hosted",
            "url_private": self.url,
            "url_private_download": self.url,
            **self.more,
        }


class Workspace:
    """One team with the app installed."""

    def __init__(self) -> None:
        self.users: dict[str, Json] = {}
        self.channels: dict[str, Json] = {}
        self.files: dict[str, File] = {}
        self.ephemerals: list[Json] = []
        self.statuses: list[Json] = []
        self.views: list[Json] = []
        self._posted: dict[str, list[Json]] = {}
        self._numbers = itertools.count(1)
        self._started = int(time.time())
        self.person(BOT_USER, "agent", is_bot=True)

    def number(self) -> int:
        return next(self._numbers)

    def ts(self) -> str:
        """Never the same twice, rising: seconds and a number, as Slack writes them."""
        return f"{max(int(time.time()), self._started)}.{self.number():06d}"

    def person(self, id: str, name: str, *, display_name: str = "", is_bot: bool = False) -> str:
        profile = {"display_name": display_name or name, "real_name": name.title()}
        self.users[id] = {
            "id": id, "team_id": TEAM, "name": name, "real_name": name.title(), "is_bot": is_bot, "profile": profile
        }  # fmt: skip
        return id

    def channel(self, id: str, name: str = "", *, user: str = "", member: bool = True) -> str:
        """A channel, or with `user` the app's direct messages with that person."""
        if id not in self.channels:
            kind = {"is_im": True, "user": user} if user else {"is_channel": True, "name": name or id.lower()}
            self.channels[id] = {"id": id, "is_member": member, "context_team_id": TEAM, **kind}
            self._posted[id] = []
        return id

    def dm(self, user: str) -> str:
        """The conversation of the app with `user`."""
        if user not in self.users:
            raise SlackError("user_not_found")
        return self.channel("D" + user[1:], user=user)

    def place(self, channel: str) -> Json:
        found = self.channels.get(channel)
        if found is None:
            raise SlackError("channel_not_found")
        return found

    def put(self, channel: str, message: Json) -> Json:
        """A new message with a ts of its own. A thread of which nothing stands is none: then it is in the
        conversation itself."""
        self.place(channel)
        if not self.thread(channel, message.get("thread_ts", "")):
            message = {name: value for name, value in message.items() if name != "thread_ts"}
        ts = self.ts()
        message = {"type": "message", "ts": ts, "team": TEAM, **message}
        parent = self.find(channel, message.get("thread_ts", ""))
        if parent is not None:
            parent.setdefault("thread_ts", parent["ts"])
            parent["reply_count"] = parent.get("reply_count", 0) + 1
        self._posted[channel].append(message)
        return message

    def find(self, channel: str, ts: str) -> Json | None:
        return next((one for one in self._posted.get(channel, []) if one["ts"] == ts), None)

    def need(self, channel: str, ts: str) -> Json:
        self.place(channel)
        found = self.find(channel, ts)
        if found is None:
            raise SlackError("message_not_found")
        return found

    def channel_of(self, ts: str) -> str:
        return next(channel for channel in self._posted if self.find(channel, ts) is not None)

    def remove(self, channel: str, ts: str) -> None:
        self._posted[channel] = [one for one in self._posted[channel] if one["ts"] != ts]

    def top(self, channel: str) -> list[Json]:
        """What stands in the conversation itself, oldest first."""
        return [one for one in self._posted.get(channel, []) if one.get("thread_ts", one["ts"]) == one["ts"]]

    def thread(self, channel: str, ts: str) -> list[Json]:
        """The parent and its replies, oldest first."""
        return [one for one in self._posted.get(channel, []) if ts in (one["ts"], one.get("thread_ts"))]

    def all(self, channel: str) -> list[Json]:
        return list(self._posted.get(channel, []))

    def file(self, name: str, data: bytes, mimetype: str = "application/octet-stream") -> File:
        made = File(f"F{self.number():08d}", name, data, mimetype)
        self.files[made.id] = made
        return made

"""What an event of Slack's says, read tolerantly into values of ours. Pure: decides nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

Json = dict[str, Any]
#: kinds of messages in which a person speaks; joins, topics, bots and reminders are none
SPOKEN = (None, "", "file_share", "thread_broadcast", "me_message")
EDIT_S = 86_400  #: an older message is not taken up again when it is edited
#: of which the manifest asks Slack to tell us; `message` stands for message.channels, .groups, .im and .mpim
TOLD = ("message", "app_mention", "agent_session_stopped")
GONE = ("tokens_revoked", "app_uninstalled")


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a person said, once."""

    channel: str
    ts: str
    user: str
    text: str
    thread: str = ""  #: ts of the thread's first message, when it stands in a thread
    files: tuple[Json, ...] = ()
    edited: str = ""  #: when it was edited
    channel_type: str = ""  #: im, mpim, channel, group; an `app_mention` does not say
    bare: bool = False  #: an `app_mention`: Slack may have left the files out

    @property
    def is_direct(self) -> bool:
        return self.channel.startswith("D")


@dataclass(frozen=True, kw_only=True)
class Edited:
    """A person changed their words."""

    before: Said
    now: Said

    @property
    def is_late(self) -> bool:
        return _seconds(self.now.edited) - _seconds(self.now.ts) > EDIT_S


@dataclass(frozen=True, kw_only=True)
class Deleted:
    """A person took their words back."""

    said: Said


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """A person pressed the Stop that Slack shows while the app works in a thread."""

    channel: str
    thread: str
    user: str
    ts: str  #: of the press


def read(event: Json) -> Said | Edited | Deleted | Stopped | None:
    """None for what is nobody's words: other kinds of events, and what bots say, this one too."""
    if event.get("type") not in TOLD:
        return None
    channel, subtype = str(event.get("channel") or ""), event.get("subtype")
    if event.get("type") == "agent_session_stopped":
        return _stopped(channel, event)
    if subtype in ("message_changed", "message_deleted"):
        return _change(channel, subtype, event)
    if event.get("type") == "app_mention" and event.get("edited"):
        return None  # comes as `message_changed`, too, which says what it was before
    said = _said(channel, event)
    if said is None or event.get("type") != "app_mention":
        return said
    return replace(said, bare=not said.files)


def _stopped(channel: str, event: Json) -> Stopped | None:
    user, ts = str(event.get("user") or ""), str(event.get("event_ts") or "")
    thread = str(event.get("thread_ts") or "")
    return Stopped(channel=channel, thread=thread, user=user, ts=ts) if channel and user and ts else None


def _change(channel: str, subtype: str, event: Json) -> Edited | Deleted | None:
    of = {"channel_type": event.get("channel_type")}
    before = _said(channel, {**mapping(event.get("previous_message")), **of})
    now = mapping(event.get("message"))
    if before is None:
        return None
    if subtype == "message_deleted" or now.get("subtype") == "tombstone":
        return Deleted(said=before)
    after = _said(channel, {**now, **of})
    edited = str(mapping(now.get("edited")).get("ts") or "")
    if after is None or not edited or after.text == before.text:
        return None  # a preview of a link, a count of replies …
    return Edited(before=before, now=replace(after, edited=edited))


def _said(channel: str, message: Json) -> Said | None:
    user, ts = str(message.get("user") or ""), str(message.get("ts") or "")
    is_bots = message.get("bot_id") or message.get("bot_profile") or user == "USLACKBOT"
    if not (channel and user and ts) or is_bots or message.get("subtype") not in SPOKEN:
        return None
    return Said(
        channel=channel,
        ts=ts,
        user=user,
        text="\n".join(filter(None, [str(message.get("text") or ""), *_shared(message)])),
        thread=str(message.get("thread_ts") or ""),
        files=files_of(message),
        channel_type=str(message.get("channel_type") or ""),
    )


def files_of(message: Json) -> tuple[Json, ...]:
    """The files that a message shares."""
    return tuple(one for one in mappings(message.get("files")) if one)


def _shared(message: Json) -> list[str]:
    """Messages of others that this one passes on, as quotes."""
    shared = [one for one in mappings(message.get("attachments")) if one.get("is_share")]
    return [
        f"> {one.get('author_name') or 'somebody'}: {one.get('text') or one.get('fallback') or ''}" for one in shared
    ]


def mapping(value: Any) -> Json:
    """What is no mapping is an empty one."""
    return dict(cast(Mapping[str, Any], value)) if isinstance(value, Mapping) else {}


def mappings(value: Any) -> list[Json]:
    """Those of a list; what is no list is an empty one."""
    return [mapping(one) for one in cast(list[Any], value)] if isinstance(value, list) else []


def _seconds(ts: str) -> float:
    try:
        return float(ts)
    except ValueError:
        return 0.0

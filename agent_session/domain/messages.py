"""What a person, a schedule or a program said to a session.

Pure. Lives in signals and carried state, so fields are added with a default that means "as before"
and are never renamed, retyped or reused (I8). `parse_message` reads whatever a signal holds: the SDK
would drop a signal that it cannot decode after the channel has acknowledged it, so we never refuse.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

from agent_session.domain.ids import scoped_id
from agent_session.domain.limits import ID_CHARS, MESSAGE_BYTES
from agent_session.domain.wire import encoded_bytes, from_wire, to_wire

COLLECT, FOLLOWUP, STEER, INTERRUPT = "collect", "followup", "steer", "interrupt"
MODES = (COLLECT, FOLLOWUP, STEER, INTERRUPT)

PERSON, HEARTBEAT, SYSTEM, SCHEDULE = "person", "heartbeat", "system", "schedule"
NOTICE = "notice"  #: words of the service itself for the message's own place; no turn, no model
KINDS = (PERSON, HEARTBEAT, SYSTEM, SCHEDULE, NOTICE)
BACKGROUND_KINDS = (HEARTBEAT, SYSTEM)  #: coalesced, and never delay a person

ATTACHMENT = re.compile(r"([0-9a-f]{64}) (\d{1,9}) ([\w.+-]{1,60}/[\w.+-]{1,60}) (.{1,200})", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class Attachment:
    """A file in a session's spool, ready to go with a message to that session."""

    ref: str  #: sha256 of what it holds
    size: int
    kind: str  #: media type
    name: str

    @property
    def wire(self) -> str:
        return f"{self.ref} {self.size} {self.kind} {self.name}"


def attachment_from(text: str) -> Attachment:
    """As `wire` wrote it. Errors: ValueError."""
    found = ATTACHMENT.fullmatch(text)
    if found is None:
        raise ValueError("this is no attachment: store the file first, and send what comes back")
    return Attachment(found[1], int(found[2]), found[3], found[4])


@dataclass(frozen=True, kw_only=True)
class InboundMessage:
    """One message. On the wire every field is str, int, bool or list."""

    id: str  #: same for every retry of one human act
    channel: str  #: where it came in: cli, http, slack …
    text: str = ""  #: empty when `text_ref` holds it
    text_ref: str = ""  #: sha256 of the text in the session's own spool
    principal: str = ""  #: who, as the channel authenticated them; empty: nobody (I10)
    grants: tuple[str, ...] = ()  #: what that principal may do: `shell`, `approve`
    sender: str = ""  #: a name to show; never authority
    reply_address: str = ""  #: `<channel>:<place>` for push channels; empty: waiters only
    reply_mac: str = ""  #: signs the address, so that only a channel's own place gets replies
    kind: str = PERSON
    mode: str = COLLECT
    attachments: tuple[str, ...] = ()  #: `sha256 size media/type name`, in the session's spool
    mac: str = ""  #: signs session, id, channel, principal, grants, text, address and attachments
    fault: str = ""  #: why it could not be read; set by `parse_message` only

    @cached_property
    def scoped(self) -> str:
        """The id that dedup, turns and waiters use."""
        return scoped_id(self.channel, self.principal, self.id)

    @cached_property
    def size_bytes(self) -> int:
        return encoded_bytes(to_wire(self))

    @property
    def is_background(self) -> bool:
        return self.kind in BACKGROUND_KINDS

    def goes_with(self, other: "InboundMessage") -> bool:
        """Whether both may be in one turn: one principal with the same grants, and one place (I10)."""
        mine = (self.channel, self.principal, self.grants, self.reply_address, self.is_background, self.fault == "")
        return mine == (
            other.channel,
            other.principal,
            other.grants,
            other.reply_address,
            other.is_background,
            other.fault == "",
        )


def parse_message(raw: object, *, fallback_id: str) -> InboundMessage:
    """Read what a signal holds. An unknown mode or kind becomes the default; what cannot be read at
    all becomes a message with `fault`, answered with an apology to its place, if it names one.
    `fallback_id` names a message that has no id of its own.
    """
    if not isinstance(raw, Mapping):
        return InboundMessage(id=fallback_id, channel="unknown", fault="it is not a message")
    given = cast(Mapping[str, Any], raw)
    message = from_wire(InboundMessage, given)
    if message.mode not in MODES:
        message = replace(message, mode=COLLECT)
    if message.kind not in KINDS:
        message = replace(message, kind=PERSON)
    fault = _fault_of(given, message)
    if fault:
        message = replace(
            message,
            id=message.id[:ID_CHARS] or fallback_id,
            channel=message.channel[:ID_CHARS] or "unknown",
            principal=message.principal[:ID_CHARS],
            reply_address=message.reply_address[:ID_CHARS],
            reply_mac=message.reply_mac[:64],
            text="",
            text_ref="",
            attachments=(),
            sender="",
            grants=(),
            mac="",
        )
    return replace(message, fault=fault)


def _fault_of(given: Mapping[str, Any], message: InboundMessage) -> str:
    if not message.id:
        return "it has no id"
    if not message.channel:
        return "it names no channel"
    if not (message.text or message.text_ref or message.attachments):
        return "its text cannot be read" if given.get("text") else "it has no text"
    if message.size_bytes > MESSAGE_BYTES:
        return f"it is larger than {MESSAGE_BYTES} bytes"
    if max(map(len, (message.id, message.channel, message.principal, message.reply_address))) > ID_CHARS:
        return f"its id, channel, principal or address is longer than {ID_CHARS} characters"
    return ""

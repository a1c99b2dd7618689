"""Names that never repeat: session keys, message ids, turn ids, call ids (I1, I4).

A session key is what people type; everything else is derived from it and from message ids, so that a
retry, another worker or a rebuilt Temporal database arrives at the same names.
"""

import hashlib
import unicodedata
from collections.abc import Iterable

from agent_session.domain.limits import ID_CHARS, KEY_BYTES

WORKFLOW_PREFIX = "session/"


class BadSessionKey(ValueError):
    """A session key that cannot be used; the message says why."""


class BadMessageId(ValueError):
    """A message id that cannot be used; the message says why."""


def session_key(text: str) -> str:
    """The key in its one spelling (NFC). Limits: 1 to 200 UTF-8 bytes, no control characters,
    no surrogates. Slashes, dots and spaces are ordinary: a key is never used as a path.
    Errors: BadSessionKey.
    """
    key = unicodedata.normalize("NFC", text)
    if not key.strip():
        raise BadSessionKey("a session key is empty: give a name, for example main")
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in key):
        raise BadSessionKey(f"session key {key!a} has a control character: use printable text")
    if len(key.encode()) > KEY_BYTES:
        raise BadSessionKey(f"session key {key[:20]!a}… is {len(key.encode())} bytes long: the limit is {KEY_BYTES}")
    return key


def message_id(text: str) -> str:
    """A message id as given by a channel. Limits: 1 to 256 characters, printable. Errors: BadMessageId."""
    if not text or len(text) > ID_CHARS or any(unicodedata.category(char) in ("Cc", "Cs") for char in text):
        raise BadMessageId(f"message id {text[:40]!a} must be 1 to {ID_CHARS} printable characters")
    return text


def workflow_id(key: str) -> str:
    return WORKFLOW_PREFIX + key


def key_of_workflow(workflow: str) -> str:
    return workflow.removeprefix(WORKFLOW_PREFIX)


def scoped_id(channel: str, principal: str, message: str) -> str:
    """An 8-byte digest (16 hex digits) of who said it where under which id: the same id from two
    channels, or from two people, is two messages (I1)."""
    parts = (channel, principal, message)
    return _hex("\0".join(f"{len(part)}:{part}" for part in parts), 16)


def turn_id(opened_with: Iterable[str]) -> str:
    """`t-` and 16 hex digits over the scoped ids of the messages that the turn opened with (I4)."""
    return "t-" + _hex("\n".join(opened_with), 16)


def call_id(turn: str, step: int, index: int) -> str:
    """Ours, because providers repeat theirs. Anthropic allows only `[a-zA-Z0-9_-]`."""
    return f"{turn}-{step}-{index}"


def error_id(*parts: object) -> str:
    """A short id that a person can type: `e-` and 8 hex digits, the same for the same parts."""
    return "e-" + _hex("\0".join(map(str, parts)), 8)


def _hex(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]

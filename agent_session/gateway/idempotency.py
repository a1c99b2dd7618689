"""The same key with another message: noticed where it can be known cheaply, from what this process has taken in
lately and from the end of the transcript. What makes a message single is its id in the session, not this."""

import asyncio
import hashlib
import os
from collections.abc import Sequence
from typing import cast

from agent_session.domain.messages import Attachment
from agent_session.gateway.errors import Problem
from agent_session.transcript.index import lines_backwards
from agent_session.transcript.lines import USER, Line, decode
from agent_session.transcript.reader import opened
from agent_session.transcript.volume import Volume

REMEMBERED = 10_000
LOOK_BACK_BYTES = 512 * 1024


class RecentMessages:
    """What was said lately under which id, as digests."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], bytes] = {}

    def differs(self, key: str, scoped: str, said: bytes) -> bool:
        """Whether something else was said under this id."""
        return self._said.get((key, scoped), said) != said

    def note(self, key: str, scoped: str, said: bytes) -> None:
        self._said[key, scoped] = said
        while len(self._said) > REMEMBERED:
            del self._said[next(iter(self._said))]


def digest_of(text: str, attachments: Sequence[Attachment]) -> bytes:
    parts = [text, *(one.ref for one in attachments)]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).digest()


def is_another(volume: Volume, key: str, scoped: str, text: str, attachments: Sequence[Attachment]) -> bool:
    """Whether the transcript's end holds another message of that id. Errors: VolumeUnavailable."""
    line = _line_of(volume, key, scoped)
    if line is None:
        return False
    refs = [one.get("ref") for one in cast(list[dict[str, str]], line.get("attachments") or [])]
    if refs != [one.ref for one in attachments]:
        return True
    whole = line.get("text_ref")
    if whole:
        return whole != hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    content = str(line.get("content", ""))
    return content != text and not (bool(refs) and content.startswith(f"{text}\n[attachment: "))


async def refuse_another(
    recent: RecentMessages, volume: Volume, key: str, scoped: str, text: str, attachments: Sequence[Attachment]
) -> None:
    """One id is one message. Errors: Problem 422, VolumeUnavailable."""
    said = digest_of(text, attachments)
    differs = recent.differs(key, scoped, said)
    if differs or await asyncio.to_thread(is_another, volume, key, scoped, text, attachments):
        told = "another message was sent with this Idempotency-Key: use a new one"
        raise Problem(422, "id_used_again", told, "Idempotency-Key")
    recent.note(key, scoped, said)


def _line_of(volume: Volume, key: str, scoped: str) -> Line | None:
    wanted = scoped.encode()
    try:
        with opened(volume, key) as descriptor:
            size = os.fstat(descriptor).st_size
            for offset, raw in lines_backwards(descriptor, size):
                line = decode(raw) if wanted in raw else None
                if line is not None and line.get("role") == USER and line.get("id") == scoped:
                    return line
                if size - offset > LOOK_BACK_BYTES:
                    return None
    except FileNotFoundError:
        pass
    return None

"""Pairing: a stranger who writes the app a direct message gets a code, the operator approves it, and from then
on that person is answered. It grants nothing else (I9, I10).

One file, `<data>/channels/slack/pairing.json` (0600), read and replaced under a lock, so that any number of
replicas and the command agree. A code is good once and for an hour; at most 100 are open.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import orjson

from agent_session.paths import folder, open_regular, read_regular, write_whole
from agent_session.transcript.volume import Volume

FILE, LOCK, FOLDER = "pairing.json", "pairing.lock", ("channels", "slack")
FILE_BYTES = 4 * 1024 * 1024
ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  #: none that look alike
CODE_CHARS = 8
CODE_S = 3_600  #: how long a code is good
OPEN_CODES = 100
AGAIN_S = 600  #: how soon a person is shown their code again


class NoSuchCode(ValueError):
    """A code that was never given out, was used, or is too old."""


@dataclass(frozen=True)
class OpenCode:
    """A code that waits to be approved."""

    code: str
    user: str
    name: str
    expires_s: int  #: seconds since the epoch
    shown_s: int = 0  #: when the person saw it last


@dataclass(frozen=True)
class PairedUser:
    """Somebody who is answered since an operator said so."""

    user: str
    name: str
    since_s: int


@dataclass
class _Book:
    open: dict[str, OpenCode] = field(default_factory=dict[str, OpenCode])  #: by user
    paired: dict[str, PairedUser] = field(default_factory=dict[str, PairedUser])  #: by user


def offer(volume: Volume, user: str, name: str) -> str:
    """The code to show to a stranger now; empty when they saw theirs a moment ago, or too many are open.
    Say `shown` once it stands there. Errors: VolumeUnavailable."""
    now = int(time.time())
    with _book(volume) as book:
        found = book.open.get(user)
        if found is None:
            if len(book.open) >= OPEN_CODES or user in book.paired:
                return ""
            code = "".join(secrets.choice(ALPHABET) for _ in range(CODE_CHARS))
            found = book.open[user] = OpenCode(code, user, name, now + CODE_S)
        return found.code if now - found.shown_s >= AGAIN_S else ""


def shown(volume: Volume, user: str) -> None:
    """The person has seen the code. Errors: VolumeUnavailable."""
    with _book(volume) as book:
        if user in book.open:
            book.open[user] = replace(book.open[user], shown_s=int(time.time()))


def approve(volume: Volume, code: str) -> PairedUser:
    """Answer the person to whom the code was shown from now on. Errors: NoSuchCode, VolumeUnavailable."""
    wanted = code.strip().upper().replace("-", "")
    with _book(volume) as book:
        found = next((one for one in book.open.values() if secrets.compare_digest(one.code, wanted)), None)
        if found is None:
            raise NoSuchCode(
                f"no code {code.strip()[:20]!r} is open: each is good once and for an hour, ask for a new one"
            )
        del book.open[found.user]
        made = book.paired[found.user] = PairedUser(found.user, found.name, int(time.time()))
        return made


def remove(volume: Volume, user: str) -> bool:
    """Answer that person no more; whether they were paired. Errors: VolumeUnavailable."""
    with _book(volume) as book:
        return book.paired.pop(user, None) is not None


def paired(volume: Volume) -> list[PairedUser]:
    """Who was paired, the oldest first. Errors: VolumeUnavailable."""
    return sorted(_read(volume).paired.values(), key=lambda one: one.since_s)


def is_paired(volume: Volume, user: str) -> bool:
    """Errors: VolumeUnavailable."""
    return user in _read(volume).paired


def waiting(volume: Volume) -> list[OpenCode]:
    """Codes that can be approved, the one that expires first at the top. Errors: VolumeUnavailable."""
    return sorted(_read(volume).open.values(), key=lambda one: one.expires_s)


@contextmanager
def _book(volume: Volume) -> Generator[_Book]:
    """The file's content under its lock; what was changed is written at the end."""
    volume.check()
    with folder(volume.root, *FOLDER, create=True) as handle:
        with os.fdopen(open_regular(handle, LOCK, os.O_RDWR | os.O_CREAT), "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            book = _decode(handle)
            before = _encode(book)
            yield book
            if _encode(book) != before:
                write_whole(handle, FILE, _encode(book))


def _read(volume: Volume) -> _Book:
    """Without the lock: the file is always whole."""
    volume.check()
    try:
        with folder(volume.root, *FOLDER) as handle:
            return _decode(handle)
    except FileNotFoundError:
        return _Book()


def _decode(handle: int) -> _Book:
    """Codes that are too old are left out."""
    try:
        raw: Any = orjson.loads(read_regular(handle, FILE, FILE_BYTES))
    except FileNotFoundError:
        return _Book()
    given = cast(dict[str, list[dict[str, Any]]], raw)
    now = time.time()
    codes = (OpenCode(**one) for one in given.get("open", []))
    people = (PairedUser(**one) for one in given.get("paired", []))
    return _Book({one.user: one for one in codes if one.expires_s > now}, {one.user: one for one in people})


def _encode(book: _Book) -> bytes:
    rows = {
        "open": [asdict(one) for one in book.open.values()],
        "paired": [asdict(one) for one in book.paired.values()],
    }
    return orjson.dumps({"v": 1, **rows}, option=orjson.OPT_INDENT_2)

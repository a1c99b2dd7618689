"""What was done in Slack for each reply: a journal a reply, on the volume, so that any process can go on where
another one died.

`<data>/channels/slack/replies/<2 hex digits>/<digest>.jsonl`: what is about to be done is written and synced before
it is done, what has been done afterwards. One holder at a time, by flock on the very file. Holds no token, and of an
answer only how it began. Forgotten after 30 days.
"""

import asyncio
import fcntl
import hashlib
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from agent_session.paths import folder, open_regular
from agent_session.transcript.volume import Volume

BELOW = ("channels", "slack", "replies")
KEEP_S = 30 * 86_400
SWEEP_EVERY_S = 3_600
LOOK_S = 0.05  #: between two tries for the lock
SHARING = 0  #: the number under which tries to post uploaded files are counted; files begin with 1
NATIVE, EDITS = "native", "edits"  #: how an answer is shown while it is written


class Held(Exception):
    """Another process, or another attempt, works on this reply right now."""


def digest(*parts: object) -> str:
    """32 hex digits over the parts."""
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "replace")).hexdigest()[:32]


@dataclass
class Shown:
    """A message that shows the answer while it is being written."""

    by: str  #: which streamer
    how: str
    at: float  #: when it was begun, seconds since the epoch
    begun: str  #: its first words
    ts: str = ""  #: empty: it may or may not be there
    sent: int = 0  #: how much has been sent, in characters
    sum: str = ""  #: of what has been sent
    sure: bool = True  #: false while it is unknown whether the last piece arrived
    leaving: bool = False  #: it is being taken away: a request for that may be under way


@dataclass
class Progress:
    """What the journal says."""

    first_at: float = 0.0  #: when delivery was first tried
    posted: dict[int, str] = field(default_factory=dict[int, str])  #: part -> ts
    #: part that may be there -> when it was first tried, and last
    trying: dict[int, tuple[float, float]] = field(default_factory=dict[int, tuple[float, float]])
    in_words: bool = False  #: Slack took no blocks: what was to be a card is posted as words
    of: int = 0  #: how many parts there are to be, as the last attempt had it
    shown: Shown | None = None
    finishing: bool = False  #: the final words are on their way: nobody streams any more
    done: bool = False
    tries: dict[int, int] = field(default_factory=dict[int, int])  #: file -> how often its upload was begun
    files: dict[int, str] = field(default_factory=dict[int, str])  #: file -> its id in Slack, once uploaded
    refused: dict[int, str] = field(default_factory=dict[int, str])  #: file -> why it will not be posted
    sharing: tuple[float, float] | None = None  #: when its posting was first tried, and last
    shared: bool = False

    @property
    def is_untouched(self) -> bool:
        """Nothing is there and nothing is under way: who comes may begin."""
        begun = self.first_at or self.posted or self.trying or self.shown or self.finishing or self.done
        return not begun

    def take(self, line: dict[str, Any]) -> None:
        """One line of the journal."""
        match line:
            case {"do": "post", "part": int(part), "of": int(of), "at": float(at)}:
                self.trying[part] = (self.trying.get(part, (at, at))[0], at)
                self.of = of
            case {"did": "post", "part": int(part), "ts": str(ts)}:
                self.trying.pop(part, None)
                self.posted[part] = ts
            case {"not": "post", "part": int(part)}:
                self.trying.pop(part, None)
            case {"do": "show", "by": str(by), "how": str(how), "at": float(at), "begun": str(begun)}:
                self.shown = Shown(by, how, at, begun)
            case {"not": "blocks"}:
                self.in_words = True
            case {"not": "show"}:
                self.shown = None
            case {"do": "begin", "at": float(at)}:
                self.first_at = self.first_at or at
            case {"do": "finish"}:
                self.finishing = True
            case {"do": "done"}:
                self.done = True
            case _:
                self._take_of_files(line)
                self._take_of_shown(line)

    def _take_of_files(self, line: dict[str, Any]) -> None:
        match line:
            case {"do": "file", "file": int(file)}:
                self.tries[file] = self.tries.get(file, 0) + 1
            case {"did": "file", "file": int(file), "id": str(id)}:
                self.files[file] = id
            case {"not": "file", "file": int(file), "why": str(why)}:
                self.files.pop(file, None)
                self.refused[file] = why
            case {"do": "share", "at": float(at)}:
                self.sharing = (self.sharing[0] if self.sharing else at, at)
                self.tries[SHARING] = self.tries.get(SHARING, 0) + 1
            case {"not": "share", "files": bool(kept)}:
                self.sharing = None
                self.files = self.files if kept else {}
            case {"did": "share"}:
                self.shared = True
            case _:
                pass

    def _take_of_shown(self, line: dict[str, Any]) -> None:
        if self.shown is None:
            return
        match line:
            case {"did": "show", "ts": str(ts)}:
                self.shown.ts = ts
            case {"do": "send", "sent": int(sent), "sum": str(sum)}:
                self.shown.sent, self.shown.sum, self.shown.sure = sent, sum, False
            case {"did": "send"}:
                self.shown.sure = True
            case {"do": "remove"}:
                self.shown.leaving = True
            case _:
                pass  # a word of a newer version


class Journal:
    """One reply's, while it is held."""

    def __init__(self, descriptor: int, data: bytes) -> None:
        self._descriptor = descriptor
        self.progress = Progress()
        for line in data.splitlines():
            try:
                found: Any = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # damage: what it said counts as unknown, and is looked up
            if isinstance(found, dict):
                self.progress.take(cast(dict[str, Any], found))

    async def add(self, **line: Any) -> None:
        """Written and synced when this returns. Errors: OSError."""
        data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, data))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait({writing})  # the file may be closed only then
            raise
        self.progress.take(line)

    def _write(self, data: bytes) -> None:
        os.write(self._descriptor, data)
        os.fsync(self._descriptor)


class Outbox:
    """The journals of a volume."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._swept: dict[str, float] = {}

    @asynccontextmanager
    async def held(self, name: str, wait_s: float) -> AsyncGenerator[Journal]:
        """The journal of `name` (a `digest`), for nobody else meanwhile. Errors: Held after `wait_s`, OSError."""
        deadline = time.monotonic() + wait_s
        while (taken := await self._taken(name)) is None:
            if time.monotonic() >= deadline:
                raise Held(f"the reply {name} is being worked on elsewhere")
            await asyncio.sleep(LOOK_S)
        descriptor, data = taken
        try:
            yield Journal(descriptor, data)
        finally:
            os.close(descriptor)

    async def _taken(self, name: str) -> tuple[int, bytes] | None:
        taking = asyncio.ensure_future(asyncio.to_thread(self._try, name))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(_give_back)
            raise

    def _try(self, name: str) -> tuple[int, bytes] | None:
        """The file, locked, and what it holds; None while another one holds it."""
        self._volume.check()
        with folder(self._volume.root, *BELOW, name[:2], create=True) as handle:
            self._sweep(name[:2], handle)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
            descriptor = open_regular(handle, f"{name}.jsonl", flags)
            taken = False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _is_still(handle, f"{name}.jsonl", descriptor):
                    return None  # it was swept away between the opening and the lock
                data = _read(descriptor)
                if not data:
                    os.fsync(handle)
                taken = True
                return descriptor, data
            except BlockingIOError:
                return None
            finally:
                if not taken:
                    os.close(descriptor)

    def _sweep(self, name: str, handle: int) -> None:
        """Old journals of a folder that is being written to go, once an hour."""
        now = time.time()
        if now - self._swept.get(name, 0.0) < SWEEP_EVERY_S:
            return
        self._swept[name] = now
        for found in os.listdir(handle):
            try:
                if now - os.stat(found, dir_fd=handle, follow_symlinks=False).st_mtime > KEEP_S:
                    _remove(handle, found)
            except OSError:
                continue  # another process was quicker, or holds it


def _give_back(taking: "asyncio.Future[tuple[int, bytes] | None]") -> None:
    """What was taken for somebody who has gone."""
    if not taking.cancelled() and taking.exception() is None and (taken := taking.result()) is not None:
        os.close(taken[0])


def _read(descriptor: int) -> bytes:
    """The whole lines; one that a crash has torn is cut off."""
    data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        os.ftruncate(descriptor, whole)
    return data[:whole]


def _is_still(handle: int, name: str, descriptor: int) -> bool:
    try:
        named = os.stat(name, dir_fd=handle, follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino)


def _remove(handle: int, name: str) -> None:
    descriptor = open_regular(handle, name, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=handle)
    finally:
        os.close(descriptor)

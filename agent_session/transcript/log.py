"""Appending to a transcript: exclusive, idempotent, fenced, durable (I5).

Every append opens the file anew, takes an exclusive `flock` on that very descriptor (a lock lost on
NFSv4 then gives EIO), reads what others appended, lets each *plan* say what is still missing, writes
all in one `write`, syncs once, and only then answers. Plans that wait while another append runs share
the next one. A torn last line is cut off; a write that does not fit is taken back.

Must not know what the lines mean: that is `recorder.py`.
"""

import asyncio
import errno
import fcntl
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from agent_session.paths import open_regular
from agent_session.transcript.index import Index, TurnSoFar, refresh, whole_size
from agent_session.transcript.lines import Line, decode, encode
from agent_session.transcript.volume import Volume, VolumeUnavailable

FILE = "history.jsonl"
LOCK_DEADLINE_S = 10.0


class VolumeFault(OSError):
    """A read or write on the volume failed; nothing of it stands in the transcript. Retry later."""


class Proof(Protocol):
    """Shows that the attempt which wants to write is still the current one (I4)."""

    def is_fresh(self) -> bool:
        """Whether it was shown less than 3 s ago."""
        ...

    def confirm(self) -> None:
        """Show it again, from a thread. Errors: StaleAttempt."""
        ...


class View:
    """The transcript's end as a plan sees it, under the lock."""

    def __init__(self, index: Index, descriptor: int) -> None:
        self.index = index
        self._descriptor = descriptor
        self._unwritten: list[tuple[int, bytes]] = []

    @property
    def open_turn(self) -> str:
        return self.index.open_turn

    def has(self, key: str) -> bool:
        return key in self.index.places

    def recorded(self, key: str) -> Line | None:
        """The line with this key in the last 1,000 lines or the open turn, or None."""
        place = self.index.places.get(key)
        return self._line(*place) if place else None

    def turn(self, turn: str) -> TurnSoFar:
        """What the turn's lines say together; nothing for one that has none."""
        return self.index.turns.get(turn) or TurnSoFar()

    def append(self, line: Line, n: int) -> None:
        """Put the line behind the last one, to be written when the plans are through."""
        raw = encode(line, self.index.seq + 1, n)
        whole = decode(raw)
        assert whole is not None
        offset = self.index.size
        self._unwritten.append((offset, raw))
        self.index.add(whole, offset, raw)

    def unwritten(self) -> bytes:
        return b"".join(raw for _, raw in self._unwritten)

    def _line(self, offset: int, length: int) -> Line | None:
        for start, raw in self._unwritten:
            if start == offset:
                return decode(raw)
        return decode(os.pread(self._descriptor, length, offset))


@dataclass(frozen=True)
class Request:
    """One append: the plan adds lines through the view; its result goes back to the caller."""

    plan: Callable[[View], object]
    proof: Proof | None
    done: "asyncio.Future[object]"


class TranscriptLog:
    """The appends of one session in this process, one after another."""

    def __init__(self, volume: Volume, key: str, pool: ThreadPoolExecutor) -> None:
        self._volume, self._key, self._pool = volume, key, pool
        self._index = Index()
        self._waiting: list[Request] = []
        self._drain: asyncio.Task[None] | None = None

    async def append(self, plan: Callable[[View], object], proof: Proof | None) -> object:
        """Run the plan under the lock; return what it returns once its lines are on disk. Shielded: a
        cancelled caller does not stop a write that has begun. Errors: VolumeUnavailable, VolumeFault,
        StaleAttempt, and what the plan raises.
        """
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_consume)
        self._waiting.append(Request(plan, proof, done))
        if self._drain is None or self._drain.done():
            self._drain = asyncio.create_task(self._drain_all())
        return await asyncio.shield(done)

    async def _drain_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                outcomes = await loop.run_in_executor(self._pool, self._commit, batch)
            except BaseException as error:
                outcomes = [error] * len(batch)
                if isinstance(error, asyncio.CancelledError):
                    raise
            for request, outcome in zip(batch, outcomes, strict=True):
                if request.done.done():
                    continue
                if isinstance(outcome, BaseException):
                    request.done.set_exception(outcome)
                else:
                    request.done.set_result(outcome)

    def _commit(self, batch: list[Request]) -> list[object]:
        try:
            with self._volume.session_folder(self._key, create=True) as handle:
                descriptor = open_regular(handle, FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND)
                try:
                    _lock(descriptor)
                    return self._commit_locked(handle, descriptor, batch)
                finally:
                    os.close(descriptor)  # which frees the lock
        except (VolumeUnavailable, VolumeFault):
            self._index = Index()
            raise
        except OSError as error:
            self._index = Index()
            raise VolumeFault(error.errno, f"the transcript of {self._key!r} cannot be written: {error}") from error

    def _commit_locked(self, handle: int, descriptor: int, batch: list[Request]) -> list[object]:
        _still_the_file(handle, descriptor)
        self._index = refresh(self._index, descriptor)
        end = whole_size(self._index, descriptor)
        if os.fstat(descriptor).st_size > end:
            os.ftruncate(descriptor, end)  # torn by a crash: it was never acknowledged
        self._index.size = end
        view = View(self._index, descriptor)
        outcomes: list[object] = []
        for request in batch:
            try:
                if request.proof is not None and not request.proof.is_fresh():
                    request.proof.confirm()
                outcomes.append(request.plan(view))
            except Exception as error:
                outcomes.append(error)
        data = view.unwritten()
        if data:
            if end == 0:
                os.fsync(handle)  # the file's own name
            _write_durably(descriptor, data, end)
        return outcomes


def _lock(descriptor: int) -> None:
    """Try-lock with a deadline: a writer that was stopped under the lock must not hold up this thread
    for ever. Errors: VolumeFault."""
    deadline, pause = time.monotonic() + LOCK_DEADLINE_S, 0.001
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise VolumeFault(
                    errno.EAGAIN, f"another writer has held the transcript's lock for {LOCK_DEADLINE_S:.0f} s"
                ) from None
            time.sleep(pause)
            pause = min(pause * 2, 0.05)


def _still_the_file(handle: int, descriptor: int) -> None:
    """The file may have been replaced (a restore) between open and lock."""
    named = os.stat(FILE, dir_fd=handle, follow_symlinks=False)
    if named.st_ino != os.fstat(descriptor).st_ino:
        raise VolumeFault(errno.ESTALE, "the transcript was replaced while it was being opened")


def _write_durably(descriptor: int, data: bytes, end: int) -> None:
    """All of it on disk, or none of it in the file."""
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, end)
        raise


def _consume(future: "asyncio.Future[object]") -> None:
    """A caller that was cancelled never looks at its future's exception; asyncio would complain."""
    if not future.cancelled():
        future.exception()

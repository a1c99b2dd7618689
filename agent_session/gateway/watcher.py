"""What one client of server-sent events has still to be sent, as ready frames. Bounded: who does not keep up is
dropped."""

import asyncio
from collections import deque
from contextlib import suppress

from agent_session.live.events import LiveEvent, encode

WAITING_FRAMES, WAITING_BYTES = 5_000, 16 * 1024 * 1024  #: of one client; beyond either it is dropped
CHUNK_BYTES = 256 * 1024  #: of frames that are written together
DROPPED_FRAME = b'event: dropped\ndata: {"why":"this client did not keep up: come again with Last-Event-ID"}\n\n'


class Watcher:
    """What one client has still to be sent."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._ended = False

    def put(self, frame: bytes) -> bool:
        """Without waiting. False when it does not keep up: it is told so, and ends."""
        fits = len(self._frames) < WAITING_FRAMES and self._bytes + len(frame) <= max(WAITING_BYTES, len(frame))
        if not fits:
            self._frames.clear()
            self._ended = True
        self._frames.append(frame if fits else DROPPED_FRAME)
        self._bytes += len(frame)
        self._news.set()
        return fits

    def end(self) -> None:
        self._ended = True
        self._news.set()

    async def take(self, patience_s: float) -> bytes | None:
        """What waits, as far as one write should hold; empty when nothing came in time, None at the end."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._news.wait()
        chunk = bytearray()
        while self._frames and (not chunk or len(chunk) + len(self._frames[0]) <= CHUNK_BYTES):
            chunk += self._frames.popleft()
        self._bytes = max(0, self._bytes - len(chunk))
        if not self._frames and not self._ended:
            self._news.clear()
        return bytes(chunk) if chunk or not self._ended else None


def line_frame(seq: int, raw: bytes) -> bytes:
    """A line of the transcript, without its newline, as one event."""
    return b"id: %d\nevent: line\ndata: %b\n\n" % (seq, raw.replace(b"\r", b" "))


def live_frame(event: LiveEvent) -> bytes:
    return b"event: live\ndata: %b\n" % encode(event)

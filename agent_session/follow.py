"""Following a transcript, line by line, as it grows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from agent_session.live.events import DELTA, TOOL_OUTPUT
from agent_session.live.watch import watch
from agent_session.transcript.lines import Line
from agent_session.transcript.reader import BadLine, read_all
from agent_session.transcript.volume import Volume

FOLLOW_POLL_S = 1.0  #: events may come a moment before their line


async def follow(volume: Volume, key: str, *, poll_s: float = 0.2) -> AsyncIterator[tuple[bytes, Line | BadLine]]:
    """The transcript's raw lines as they come, from the first on; waits for the file. Where the live bus can
    be reached it says when to look, so a line shows as soon as it stands there."""
    position, news = 0, asyncio.Event()
    listening = asyncio.create_task(_listen(volume.root, key, news))
    try:
        while True:
            try:
                for after, raw, line in read_all(volume, key, position):
                    position = after
                    yield raw, line
            except FileNotFoundError:
                pass
            with suppress(TimeoutError):
                async with asyncio.timeout(poll_s if listening.done() else FOLLOW_POLL_S):
                    await news.wait()
            news.clear()
    finally:
        listening.cancel()


async def _listen(data_dir: Path, key: str, news: asyncio.Event) -> None:
    with suppress(OSError):
        async for event in watch(data_dir, key):
            if event.kind not in (DELTA, TOOL_OUTPUT):
                news.set()

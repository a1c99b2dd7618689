"""Transcripts of this machine, read from the volume in a thread, and its live bus. Needs no service: looking works
while nothing runs."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import islice

from agent_session.client_types import NoSuchSession
from agent_session.domain.ids import session_key
from agent_session.follow import follow
from agent_session.live.bus import live_bus
from agent_session.live.events import LiveEvent
from agent_session.settings import Settings
from agent_session.transcript.lines import Line
from agent_session.transcript.reader import BadLine, backwards, read_all
from agent_session.transcript.volume import Volume

LINES_AT_ONCE = 64


class LocalTranscripts:
    """Reads the volume and the live bus of a data directory."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.volume = Volume(settings.data_dir)

    async def lines(self, key: str) -> AsyncGenerator[tuple[bytes, Line | BadLine]]:
        """Errors: NoSuchSession, VolumeUnavailable."""
        found = read_all(self.volume, session_key(key))
        try:
            while some := await asyncio.to_thread(lambda: list(islice(found, LINES_AT_ONCE))):
                for _, raw, line in some:
                    yield raw, line
        except FileNotFoundError:
            raise NoSuchSession(f"session {key!r} has no transcript in {self.settings.data_dir}") from None

    async def backwards(self, key: str) -> AsyncGenerator[Line]:
        """Errors: VolumeUnavailable."""
        found = backwards(self.volume, session_key(key))
        while some := await asyncio.to_thread(lambda: list(islice(found, LINES_AT_ONCE))):
            for line in some:
                yield line

    async def follow(self, key: str) -> AsyncGenerator[tuple[bytes, Line | BadLine]]:
        """Errors: VolumeUnavailable."""
        async for raw, line in follow(self.volume, session_key(key)):
            yield raw, line

    def events(
        self, key: str, ready: asyncio.Event | None = None, *, replay: bool = False
    ) -> AsyncGenerator[LiveEvent]:
        """Errors: OSError where nothing serves the data directory, BadSettings."""
        return live_bus(self.settings).watch(session_key(key), ready, replay=replay)

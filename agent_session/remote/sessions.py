"""What commands and the chat need of sessions, wherever those are: on this machine, or behind a gateway.

Protocols only. `LocalSessions` and `RemoteSessions` have these methods; `ops.attach` chooses one of them.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Protocol

from agent_session.client_types import Receipt, Reply, SessionRow
from agent_session.domain.messages import COLLECT, Attachment
from agent_session.domain.status import Status
from agent_session.live.events import LiveEvent
from agent_session.settings import Settings
from agent_session.transcript.lines import Line
from agent_session.transcript.reader import BadLine


class Transcripts(Protocol):
    """Looking only."""

    def lines(self, key: str) -> AsyncGenerator[tuple[bytes, Line | BadLine]]:
        """The transcript, oldest first, each line raw and read. Errors: NoSuchSession."""
        ...

    def backwards(self, key: str) -> AsyncGenerator[Line]:
        """From the last line to the first; nothing when there is no transcript."""
        ...

    def follow(self, key: str) -> AsyncGenerator[tuple[bytes, Line | BadLine]]:
        """As `lines`, and on as they come, without an end; waits for the transcript."""
        ...

    def events(
        self, key: str, ready: asyncio.Event | None = None, *, replay: bool = False
    ) -> AsyncGenerator[LiveEvent]:
        """Live progress from now on; with `replay`, what the running turn has shown so far comes first. `ready` is set
        once nothing more can be missed. Errors: OSError."""
        ...


class Sessions(Transcripts, Protocol):
    """As `SessionClient` has them; its docstrings say more."""

    settings: Settings
    channel: str  #: under which this client's messages stand in transcripts
    principal: str  #: likewise; empty while it is not known

    async def send(
        self,
        key: str,
        text: str,
        *,
        id: str = "",
        mode: str = COLLECT,
        sender: str = "",
        reply_address: str = "",
        attachments: Sequence[str | Path | Attachment] = (),
        timeout_s: float = 60,
    ) -> Receipt: ...

    async def await_reply(self, key: str, id: str, *, timeout_s: float = 600) -> Reply: ...

    async def status(self, key: str) -> Status: ...

    async def sessions(self, *, all: bool = False, limit: int = 1000) -> list[SessionRow]: ...

    async def cancel(self, key: str, turn: str = "") -> str: ...

    async def close(self, key: str) -> None: ...

    async def resolve(
        self, key: str, call: str, digest: str, decision: str, reason: str = "", *, pattern: str = ""
    ) -> None: ...

    def waiting_calls(self, key: str, status: Status) -> list[dict[str, str]]:
        """Of the session's newest status."""
        ...

    def use_workspace(self, key: str, path: Path) -> None: ...

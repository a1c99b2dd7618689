"""How a command finds sessions: behind the gateway of `gateway.url`, in the configured Temporal, in the `up` of this
data directory, or in one that it starts for itself and that ends when the last client has gone.

The one place that chooses: commands and the chat do not know which they have.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agent_session.remote.sessions import Sessions, Transcripts
from agent_session.settings import BadSettings, Settings
from agent_session.telemetry import LOG_FOLDER
from agent_session.transcript.volume import Volume

if TYPE_CHECKING:  # each is slow to import, and a command needs one of them
    from agent_session.remote.local_sessions import LocalSessions

START_DEADLINE_S = 60.0
USAGE = 2  #: the exit code of a service that cannot use its settings


@asynccontextmanager
async def attached(settings: Settings, *, channel: str, start: bool) -> AsyncGenerator[Sessions]:
    """Sessions to talk to; with `start`, a service is started where none runs, and a gateway must answer. Errors:
    Unreachable, NotAVolume, BadSettings."""
    if settings.gateway.url:
        from agent_session.remote.client import RemoteSessions

        async with RemoteSessions.of(settings) as remote:
            if start:
                await remote.check()
            yield remote
        return
    async with local(settings, channel=channel, start=start) as client:
        yield client


@asynccontextmanager
async def looking(settings: Settings) -> AsyncGenerator[Transcripts]:
    """Transcripts and live events; on this machine no service need run. Errors: BadSettings."""
    if settings.gateway.url:
        from agent_session.remote.client import RemoteSessions

        async with RemoteSessions.of(settings) as remote:
            yield remote
        return
    from agent_session.remote.local_transcripts import LocalTranscripts

    yield LocalTranscripts(settings)


@asynccontextmanager
async def local(settings: Settings, *, channel: str, start: bool) -> "AsyncGenerator[LocalSessions]":
    """As `attached`, past any gateway."""
    from agent_session.connection import Unreachable, configured_address
    from agent_session.ops.owner import being_a_client
    from agent_session.remote.local_sessions import LocalSessions

    if configured_address(settings):
        yield await LocalSessions.connect(settings, channel=channel)
        return
    if start:
        Volume(settings.data_dir).create_or_check()
    elif not settings.data_dir.exists():
        raise Unreachable(f"nothing runs on {settings.data_dir}: start 'agent-session up' or 'agent-session chat'")
    with being_a_client(settings.data_dir):
        yield await _client(settings, channel, start)


async def _client(settings: Settings, channel: str, start: bool) -> "LocalSessions":
    from agent_session.connection import Unreachable, read_service
    from agent_session.ops.owner import is_owned
    from agent_session.remote.local_sessions import LocalSessions

    deadline = time.monotonic() + START_DEADLINE_S
    process: subprocess.Popen[bytes] | None = None
    while True:
        if is_owned(settings.data_dir):
            service = read_service(settings.data_dir)
            if service is not None:
                try:
                    return await LocalSessions.connect(settings, address=service.address, channel=channel)
                except Unreachable:
                    pass  # it is going down, or Temporal is being restarted
        elif process is not None and process.poll() == USAGE:
            raise BadSettings(_last_words(settings.data_dir))
        elif process is not None and process.poll() not in (None, 0):
            raise Unreachable(_last_words(settings.data_dir))
        elif not start:
            raise Unreachable(f"nothing runs on {settings.data_dir}: start 'agent-session up' or 'agent-session chat'")
        elif process is None or process.poll() is not None:
            process = _start_service(settings.data_dir)
        if time.monotonic() > deadline:
            raise Unreachable(
                f"the service on {settings.data_dir} does not get ready; {_last_words(settings.data_dir)}"
            )
        await asyncio.sleep(0.05)


def _start_service(data_dir: Path) -> "subprocess.Popen[bytes]":
    """Detached: in a session of its own, so that a terminal's Ctrl-C and hang-up do not reach it."""
    (data_dir / LOG_FOLDER).mkdir(mode=0o700, exist_ok=True)
    with open(_errors_file(data_dir), "wb", opener=_private) as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "agent_session", "up", "--while-used", "--data-dir", str(data_dir)],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _errors_file(data_dir: Path) -> Path:
    return data_dir / LOG_FOLDER / "up.err"


def _last_words(data_dir: Path) -> str:
    try:
        text = _errors_file(data_dir).read_text(errors="replace").strip()
    except OSError:
        text = ""
    words = "\n".join(text.splitlines()[-3:]).removeprefix("error: ")
    return words or f"see {data_dir / LOG_FOLDER}"

"""A watcher's end of the live bus."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import orjson

from agent_session.live.events import LiveEvent, decode
from agent_session.live.running import TEXT_CHARS
from agent_session.live.socket_path import socket_address

REPLAY_BYTES = 8 * TEXT_CHARS  #: one text of a replay is one line, and a character up to six bytes of it


async def watch(
    data_dir: Path, session: str, ready: asyncio.Event | None = None, *, replay: bool = False
) -> AsyncGenerator[LiveEvent]:
    """Events of one session from now on, with `replay` those of the running turn first; ends when the relay
    ends or this watcher was too slow. `ready` is set once nothing more can be missed. Errors: OSError where
    nothing serves `live.sock`."""
    with socket_address(data_dir) as address:
        reader, writer = await asyncio.open_unix_connection(address, limit=REPLAY_BYTES)
    try:
        writer.write(orjson.dumps({"role": "watch", "session": session, "replay": replay}) + b"\n")
        await reader.readline()
        if ready is not None:
            ready.set()
        while line := await reader.readline():
            event = decode(line)
            if event is not None:
                yield event
    except ValueError as error:
        raise OSError(f"the relay said too much at once: {error}") from None
    finally:
        writer.close()

"""Replies appended to a file: for scripts, tests and chaos runs.

Address `file:<name>`; the file is `<data>/channels/file/<name>.jsonl`, one `{"reply": …, "text": …}` a
line. Appends hold a lock and look the reply's id up first, so each reply stands there once.
"""

import asyncio
import fcntl
import os
import re
from pathlib import Path

import orjson

from agent_session.client import SessionClient
from agent_session.domain.outbound import Outbound
from agent_session.paths import folder, open_regular
from agent_session.settings import Settings
from agent_session.transcript.volume import Volume
from channels.base import Capabilities

PLACE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\Z")


class FileChannel:
    """Out only; nothing comes in."""

    name = "file"
    capabilities = Capabilities(delivers=True)

    def __init__(self, data_dir: Path) -> None:
        self._volume = Volume(data_dir)

    async def run(self, client: SessionClient) -> None:
        await asyncio.Event().wait()

    def check_place(self, place: str) -> None:
        if not PLACE.match(place):
            raise ValueError(f"{place!r} is no file name: letters, digits, '.', '_' and '-', at most 100")

    async def deliver(self, out: Outbound) -> None:
        self.check_place(out.place)
        await asyncio.to_thread(self._append, out.place, out.reply, out.text)

    async def probe(self) -> str:
        try:
            self._volume.check()
            return ""
        except OSError as error:
            return str(error)

    def _append(self, place: str, reply_id: str, text: str) -> None:
        self._volume.check()
        with folder(self._volume.root, "channels", "file", create=True) as handle:
            descriptor = open_regular(handle, f"{place}.jsonl", os.O_RDWR | os.O_CREAT | os.O_APPEND)
            with os.fdopen(descriptor, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                data = file.read()
                whole = data.rfind(b"\n") + 1
                file.truncate(whole)  # a line torn by a crash was never a delivery
                if any(orjson.loads(line)["reply"] == reply_id for line in data[:whole].splitlines()):
                    return
                file.write(orjson.dumps({"reply": reply_id, "text": text}, option=orjson.OPT_APPEND_NEWLINE))
                file.flush()
                os.fsync(file.fileno())


def create(settings: Settings) -> FileChannel:
    return FileChannel(settings.data_dir)

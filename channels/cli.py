"""Standard input: each line is a message, the next one is sent when the reply has come.

Waits for its own replies, so nothing is pushed to it. A person at a terminal gets `agent_session.terminal`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from agent_session.asking import NeedsAPerson, reply_unless_it_asks
from agent_session.client_types import Reply, SessionError
from agent_session.domain.outbound import Outbound
from agent_session.remote.sessions import Sessions
from agent_session.settings import Settings
from channels.base import Capabilities


class CliChannel:
    """One conversation by lines."""

    name = "cli"
    capabilities = Capabilities(files=True, decides=True)

    def __init__(self, key: str = "main", attachments: Sequence[Path] = ()) -> None:
        self.key = key
        self.failed = False
        self._attachments = attachments  # for the first message

    async def run(self, client: Sessions) -> None:
        """Talk until the end of input. `failed` says whether a message was not answered. Errors: NeedsAPerson."""
        async for line in lines_of_stdin():
            if line.strip():
                await self._say(client, line)

    async def _say(self, client: Sessions, text: str) -> None:
        files, self._attachments = self._attachments, ()
        try:
            receipt = await client.send(self.key, text, attachments=files)
            reply = await reply_unless_it_asks(client, self.key, receipt.id, timeout_s=7 * 86_400)
            show(reply)
            self.failed = self.failed or not reply.ok
        except NeedsAPerson:
            raise
        except (SessionError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            self.failed = True

    def check_place(self, place: str) -> None:
        raise ValueError("a terminal is not pushed to: it waits for its replies")

    async def deliver(self, out: Outbound) -> None:
        self.check_place(out.place)

    async def probe(self) -> str:
        return ""


def show(reply: Reply, write: Callable[[str], None] | None = None) -> None:
    """Answers on stdout; how else a turn ended, on stderr."""
    if reply.ok:
        (write or _out)(reply.text)
    elif reply.outcome == "failed":
        _err(f"error: {reply.text}")
    else:
        _err(f"({reply.outcome})")


def _out(text: str) -> None:
    print(text, flush=True)


def _err(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def lines_of_stdin() -> AsyncIterator[str]:
    """Standard input by lines, read in a thread so that the loop stays free."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        yield line.decode("utf-8", "replace").rstrip("\r\n")


def create(settings: Settings) -> CliChannel:
    return CliChannel()

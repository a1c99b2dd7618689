"""The terminal, and standard input: each line is a message, the next one is sent when the reply has come.

Waits for its own replies, so nothing is pushed to it.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable

from agent_session.client import Reply, SessionClient, SessionError
from agent_session.settings import Settings


class CliChannel:
    """One conversation in one terminal."""

    name = "cli"
    delivers = False

    def __init__(self, key: str = "main") -> None:
        self.key = key
        self.failed = False

    async def run(self, client: SessionClient) -> None:
        """Talk until the end of input. `failed` says whether a message was not answered."""
        async for line in lines_of_stdin():
            if line.strip():
                await self._say(client, line)

    async def _say(self, client: SessionClient, text: str) -> None:
        try:
            reply = await client.ask(self.key, text, timeout_s=7 * 86_400)
            show(reply)
            self.failed = self.failed or not reply.ok
        except (SessionError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            self.failed = True

    async def deliver(self, place: str, reply_id: str, text: str) -> None:
        raise ValueError("a terminal is not pushed to: it waits for its replies")

    async def probe(self) -> str:
        return ""


class TerminalChannel(CliChannel):
    """A plain prompt; Ctrl-C cancels the running turn, at the prompt it leaves."""

    async def run(self, client: SessionClient) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.patch_stdout import patch_stdout

        prompt: PromptSession[str] = PromptSession()
        while True:
            try:
                with patch_stdout():
                    text = await prompt.prompt_async(f"{self.key}> ")
            except (EOFError, KeyboardInterrupt):
                return
            if text.strip() in ("/quit", "/exit"):
                return
            if text.strip():
                await self._say_until_answered(client, text)

    async def _say_until_answered(self, client: SessionClient, text: str) -> None:
        say = asyncio.create_task(self._say(client, text))
        loop = asyncio.get_running_loop()
        import signal

        cancelling: list[asyncio.Task[str]] = []
        loop.add_signal_handler(signal.SIGINT, lambda: cancelling.append(asyncio.create_task(client.cancel(self.key))))
        try:
            await say
        finally:
            loop.remove_signal_handler(signal.SIGINT)


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

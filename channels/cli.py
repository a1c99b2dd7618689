"""The terminal, and standard input: each line is a message, the next one is sent when the reply has come.

Waits for its own replies, so nothing is pushed to it.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable

from agent_session.client import Reply, SessionClient, SessionError
from agent_session.live.events import APPROVAL, DELTA, RETRY, STEP, TOOL_FINISHED, TOOL_STARTED, LiveEvent
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

    def check_place(self, place: str) -> None:
        raise ValueError("a terminal is not pushed to: it waits for its replies")

    async def deliver(self, place: str, reply_id: str, text: str) -> None:
        self.check_place(place)

    async def probe(self) -> str:
        return ""


class TerminalChannel(CliChannel):
    """A plain prompt; Ctrl-C cancels the running turn, at the prompt it leaves."""

    async def run(self, client: SessionClient) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.patch_stdout import patch_stdout

        self._prompt: PromptSession[str] = PromptSession()
        while True:
            try:
                with patch_stdout():
                    text = await self._prompt.prompt_async(f"{self.key}> ")
            except (EOFError, KeyboardInterrupt):
                return
            if text.strip() in ("/quit", "/exit"):
                return
            if text.strip():
                await self._say_until_answered(client, text)

    async def _say_until_answered(self, client: SessionClient, text: str) -> None:
        loop = asyncio.get_running_loop()
        cancelling: list[asyncio.Task[str]] = []
        stop = lambda: cancelling.append(asyncio.create_task(client.cancel(self.key)))  # noqa: E731
        loop.add_signal_handler(signal.SIGINT, stop)
        screen = Screen()
        watching = asyncio.create_task(self._show_progress(client, screen))
        try:
            await asyncio.wait(
                {watching, asyncio.create_task(screen.ready.wait())}, timeout=1, return_when="FIRST_COMPLETED"
            )
            show(await client.ask(self.key, text, timeout_s=7 * 86_400), screen.finish)
        except (SessionError, ValueError) as error:
            _err(f"error: {error}")
            self.failed = True
        finally:
            watching.cancel()
            loop.remove_signal_handler(signal.SIGINT)

    async def _show_progress(self, client: SessionClient, screen: "Screen") -> None:
        with contextlib.suppress(OSError):  # nobody serves live.sock: the reply comes all the same
            async for event in client.events(self.key, screen.ready):
                screen.show(event)
                if event.kind == APPROVAL:
                    await self._decide(client, event)

    async def _decide(self, client: SessionClient, event: LiveEvent) -> None:
        """Ask the person at this terminal, unless somebody else decides meanwhile."""
        try:
            answer = await self._prompt.prompt_async("  allow this once? [y/N] ")
        except (EOFError, KeyboardInterrupt):
            answer = ""
        for waiting in client.waiting_calls(self.key, await client.status(self.key)):
            if waiting["call"] == event.call:
                decision = "allow" if answer.strip().lower() in ("y", "yes") else "deny"
                await client.resolve(self.key, event.call, waiting["digest"], decision)


class Screen:
    """What a terminal shows while a turn runs: the answer as it comes, a line for each tool."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self._streamed = ""

    def show(self, event: LiveEvent) -> None:
        if event.kind == DELTA:
            self._streamed += event.text
            print(event.text, end="", flush=True)
        elif event.kind == STEP:
            self._new_line()
        elif event.kind == RETRY:
            self._new_line()
            _err(f"  {event.text}")
        elif event.kind == APPROVAL:
            self._new_line()
            print(f"  ? {event.tool} asks to run: {visible(event.text)}", flush=True)
        elif event.kind == TOOL_STARTED:
            self._new_line()
            print(f"  ⚙ {event.tool}  {visible(event.text)[:100]}", flush=True)
        elif event.kind == TOOL_FINISHED and event.outcome != "ok":
            print(f"  ⚙ {event.tool}  {event.outcome}", flush=True)

    def finish(self, text: str) -> None:
        """The reply is here: show what has not been seen of it."""
        seen = self._streamed.strip()
        self._new_line()
        if not seen or seen != text.strip():
            print(text, flush=True)

    def _new_line(self) -> None:
        if self._streamed and not self._streamed.endswith("\n"):
            print(flush=True)
        self._streamed = ""


def visible(text: str) -> str:
    """Control and bidirectional characters made visible: a person must see what really would run."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


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

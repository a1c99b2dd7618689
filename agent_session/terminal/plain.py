"""A terminal without a cursor (TERM=dumb, an editor's shell, a pipe behind it): lines in, lines out.

Nothing is ever rewritten: no live area, no status line; the prompt comes when somebody is expected to type.
"""

import asyncio
import codecs
import os
import signal
import sys
import time

from agent_session.terminal.face import Talk


class Plain:
    """Reads the terminal's own lines, so that its echo and its editing are those of the system."""

    streams_below = False

    def __init__(self) -> None:
        self._chat: Talk | None = None
        self._left = asyncio.Event()
        self._prompted = ""
        self._rest = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._prompted_at = 0.0

    def write(self, text: str) -> None:
        if self._prompted:
            print()
            self._prompted = ""
        encoding = sys.stdout.encoding or "ascii"
        print(text.encode(encoding, "replace").decode(encoding), flush=True)

    def refresh(self) -> None:
        """Show the prompt when it is the person's turn."""
        if self._chat is None or self._left.is_set() or not self._chat.idle or self._prompted == self._chat.prompt:
            return
        if sys.stdout.isatty():
            print(("\n" if self._prompted else "") + self._chat.prompt, end="", flush=True)
        self._prompted, self._prompted_at = self._chat.prompt, time.monotonic()

    async def run(self, chat: Talk) -> None:
        self._chat = chat
        loop = asyncio.get_running_loop()
        descriptor = sys.stdin.fileno()
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        loop.add_reader(descriptor, self._read, descriptor)
        try:
            self.refresh()
            await self._left.wait()
        finally:
            loop.remove_reader(descriptor)
            loop.remove_signal_handler(signal.SIGINT)
            if self._prompted and sys.stdout.isatty():
                print(flush=True)
                self._prompted = ""

    def leave(self) -> None:
        self._left.set()

    def _interrupted(self) -> None:
        if self._chat is not None:
            self._chat.interrupted(False)
            self.refresh()

    def _read(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, 65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.leave()
            return
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        for line in lines:
            since, self._prompted = self._prompted_at, ""
            if self._chat is not None:
                self._chat.typed(line.rstrip("\r"), fresh_since=since)
        self.refresh()

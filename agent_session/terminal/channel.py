"""The interactive chat, put together: the screen where the terminal can show one, plain lines elsewhere."""

import asyncio
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from agent_session.remote.sessions import Sessions
from agent_session.terminal.chat import Chat
from agent_session.terminal.face import Face
from agent_session.terminal.look import this_look
from agent_session.terminal.plain import Plain
from agent_session.terminal.render import Renderer

HISTORY_FILE = "cli_history"


class TerminalChannel:
    """A person at a terminal. Waits for its own replies, so nothing is pushed to it."""

    name = "cli"

    def __init__(self, key: str = "main", attachments: Sequence[Path] = ()) -> None:
        self.key = key
        self._attachments = attachments
        self.failed = False  #: a person sees what fails; leaving is always fine

    async def run(self, client: Sessions) -> None:
        """Talk until the person leaves."""
        look = this_look()
        names: list[Chat] = []

        async def sessions() -> list[str]:
            return await names[0].session_names()

        face: Face
        if look.screen:
            from agent_session.terminal.screen import Screen

            face = screen = Screen(look, client.settings.data_dir / HISTORY_FILE, sessions)
            renderer = Renderer(look, lambda: screen.width)
            warming = asyncio.create_task(asyncio.to_thread(renderer.markdown, "warm"))  # rich takes 0.1 s to import
        else:
            face, warming = Plain(), None
            renderer = Renderer(look, lambda: shutil.get_terminal_size().columns)
        names.append(Chat(client, face, look, renderer, self.key, self._attachments))
        await names[0].run()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient third Ctrl-C changes nothing about how it ended
        if warming is not None:
            await warming

"""Letters as files. `<data>/channels/mailbox/in/<person>-<anything>.letter` is a message to the session
`mail`; the answer becomes a file in `<data>/channels/mailbox/<person>/`. Whoever may write there is trusted.
"""

import asyncio
import os
import re

from agent_session.client import SessionClient
from agent_session.domain.outbound import Outbound
from agent_session.paths import folder, read_regular, write_whole
from agent_session.settings import Settings
from agent_session.transcript.volume import Volume
from channels.base import Capabilities

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,63}\Z")
LETTER = re.compile(r"(?P<person>[A-Za-z0-9][A-Za-z0-9_]{0,63})-[A-Za-z0-9._-]{1,64}\.letter\Z")
LETTER_BYTES = 256 * 1024
LOOK_S = 1.0


class Mailbox:
    """In and out."""

    name = "mailbox"
    capabilities = Capabilities(receives=True, delivers=True)

    def __init__(self, volume: Volume) -> None:
        self._volume = volume

    async def run(self, client: SessionClient) -> None:
        while True:
            for name, person, text in await asyncio.to_thread(self._letters):
                await client.send("mail", text, id=name, sender=person, reply_address=f"mailbox:{person}")
                # Only now: a crash before this sends it again, with the same id, which is the same message.
                await asyncio.to_thread(self._burn, name)
            await asyncio.sleep(LOOK_S)

    def check_place(self, place: str) -> None:
        if not NAME.match(place):
            raise ValueError(f"{place!r} is nobody's name: letters, digits and _, at most 64")

    async def deliver(self, out: Outbound) -> None:
        self.check_place(out.place)
        await asyncio.to_thread(self._post, out.place, out.reply, out.text)

    async def probe(self) -> str:
        try:
            self._volume.check()
        except OSError as error:
            return str(error)
        return ""

    def _post(self, person: str, reply_id: str, text: str) -> None:
        self._volume.check()
        with folder(self._volume.root, "channels", "mailbox", person, create=True) as handle:
            write_whole(handle, f"{reply_id}.txt", text.encode())  # the same reply again is the same file

    def _letters(self) -> list[tuple[str, str, str]]:
        self._volume.check()
        with folder(self._volume.root, "channels", "mailbox", "in", create=True) as handle:
            found = [match for name in sorted(os.listdir(handle)) if (match := LETTER.match(name))]
            return [(one[0], one["person"], read_regular(handle, one[0], LETTER_BYTES).decode()) for one in found]

    def _burn(self, name: str) -> None:
        with folder(self._volume.root, "channels", "mailbox", "in") as handle:
            os.unlink(name, dir_fd=handle)


def create(settings: Settings) -> Mailbox:
    return Mailbox(Volume(settings.data_dir))

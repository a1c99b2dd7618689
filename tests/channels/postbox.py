"""A channel for tests, as another package would bring it: letters are files below `POSTBOX_DIR`.

`in/<person>-<anything>.letter` is a message; what is posted to `<person>` stands in `<person>.posted`, a line each,
and every attempt in `<person>.tried`. A file `hold` keeps each delivery between posting and saying so; a file
`broken` makes `run` and `probe` fail.
"""

import asyncio
import os
from pathlib import Path

import orjson

from agent_session.client import SessionClient
from agent_session.domain.outbound import Outbound
from agent_session.settings import Settings
from channels.base import Capabilities
from channels.routing import Place, session_of

LOOK_S = 0.05


def configured(settings: Settings) -> str:
    return "" if os.environ.get("POSTBOX_DIR") else "set POSTBOX_DIR to the folder of the letters"


class Postbox:
    """In and out."""

    name = "postbox"
    capabilities = Capabilities(receives=True, delivers=True, files=True)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def run(self, client: SessionClient) -> None:
        while True:
            self._fail_when_broken()
            for path in sorted((self._folder / "in").glob("*.letter")):
                person = path.name.partition("-")[0]
                place = Place(channel=self.name, kind="dm", parts={"user": person})
                key, address = session_of({}, place), f"{self.name}:{person}"
                await client.send(key, path.read_text(), id=path.name, sender=person, reply_address=address)
                path.unlink()
            await asyncio.sleep(LOOK_S)

    def check_place(self, place: str) -> None:
        if not place.isalnum():
            raise ValueError(f"{place!r} is nobody's name: letters and digits")

    async def deliver(self, out: Outbound) -> None:
        self.check_place(out.place)
        posted = self._folder / f"{out.place}.posted"
        with open(self._folder / f"{out.place}.tried", "a") as tried:
            tried.write(f"{out.reply}\n")
        if not posted.exists() or out.reply not in (orjson.loads(one)[0] for one in posted.read_bytes().splitlines()):
            with open(posted, "ab") as file:
                file.write(orjson.dumps([out.reply, out.text]) + b"\n")
        while (self._folder / "hold").exists():
            await asyncio.sleep(LOOK_S)

    async def probe(self) -> str:
        try:
            self._fail_when_broken()
            (self._folder / "probe").write_text("here")
            return "" if (self._folder / "probe").read_text() == "here" else "letters are lost"
        except (RuntimeError, OSError) as error:
            return str(error)

    def _fail_when_broken(self) -> None:
        if (self._folder / "broken").exists():
            raise RuntimeError("the postbox is broken: mend it")


def create(settings: Settings) -> Postbox:
    return Postbox(Path(os.environ.get("POSTBOX_DIR", "/nowhere")))

"""Where a gateway listens, and where local commands find it: `gateway.json` in the data directory."""

import asyncio
import fcntl
import ipaddress
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from agent_session.paths import folder, open_regular, write_whole

ADDRESS_FILE, MOST_BYTES = "gateway.json", 4096
LOOK_S = 2.0  #: how soon an older gateway takes the place of a newer one that has ended


@dataclass(frozen=True)
class GatewayAddress:
    url: str
    pid: int
    host: str  #: the machine, as a volume may be shared


def is_loopback(host: str) -> bool:
    """Of an address or name to bind to."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url_of(host: str, port: int) -> str:
    """An address that is bound to everything is reached by loopback from here."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"


class Announcement:
    """Local commands find this gateway while it lives. It holds a lock on what it wrote, so what a dead one left is not
    believed: somebody else may listen there by now."""

    def __init__(self, data_dir: Path, url: str) -> None:
        self._data_dir, self._url, self._held = data_dir, url, -1

    def announce(self) -> None:
        """The newest gateway of this data directory. Errors: OSError."""
        mine = GatewayAddress(self._url, os.getpid(), socket.gethostname())
        self._let_go()
        with folder(self._data_dir) as handle:
            write_whole(handle, ADDRESS_FILE, orjson.dumps(asdict(mine)))
            self._held = open_regular(handle, ADDRESS_FILE, os.O_RDONLY)
        fcntl.flock(self._held, fcntl.LOCK_EX)  # who reads holds it for an instant

    async def keep(self) -> None:
        """Announce, and again whenever no gateway is announced: a newer one has ended. Until cancelled."""
        try:
            while True:
                with suppress(OSError):  # a volume that is full or read-only: it can be used all the same
                    if read_gateway(self._data_dir) is None:
                        self.announce()
                await asyncio.sleep(LOOK_S)
        finally:
            self.withdraw()

    def withdraw(self) -> None:
        """Unless another has taken its place."""
        with suppress(OSError):
            if self._held >= 0 and (self._data_dir / ADDRESS_FILE).stat().st_ino == os.fstat(self._held).st_ino:
                forget_gateway(self._data_dir)
        self._let_go()

    def _let_go(self) -> None:
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


@contextmanager
def announced(data_dir: Path, url: str) -> Generator[None]:
    """Announced while inside. Errors: OSError."""
    made = Announcement(data_dir, url)
    made.announce()
    try:
        yield
    finally:
        made.withdraw()


def read_gateway(data_dir: Path) -> GatewayAddress | None:
    """The gateway of this data directory that lives on this machine, if one does."""
    try:
        with folder(data_dir) as handle:
            descriptor = open_regular(handle, ADDRESS_FILE, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            raw = orjson.loads(file.read(MOST_BYTES))
            found = GatewayAddress(str(raw["url"]), int(raw["pid"]), str(raw["host"]))
            lives = _is_held(file.fileno())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if lives and found.host == socket.gethostname() else None


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def forget_gateway(data_dir: Path) -> None:
    """What a dead one said."""
    (data_dir / ADDRESS_FILE).unlink(missing_ok=True)

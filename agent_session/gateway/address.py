"""Where a gateway listens, and where local commands find it: `gateway.json` in the data directory."""

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


@contextmanager
def announced(data_dir: Path, url: str) -> Generator[None]:
    """While inside, local commands find this gateway, the newest of this data directory. It holds a lock on what it
    wrote, so what a dead one left is not believed: somebody else may listen there by now. Errors: OSError."""
    mine = GatewayAddress(url, os.getpid(), socket.gethostname())
    with folder(data_dir) as handle:
        write_whole(handle, ADDRESS_FILE, orjson.dumps(asdict(mine)))
        descriptor = open_regular(handle, ADDRESS_FILE, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # who reads holds it for an instant
        yield
    finally:
        with suppress(OSError):
            if (data_dir / ADDRESS_FILE).stat().st_ino == os.fstat(descriptor).st_ino:
                forget_gateway(data_dir)
        os.close(descriptor)


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

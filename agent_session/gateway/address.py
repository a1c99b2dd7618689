"""Where a gateway listens, and where local commands find it: `gateway.json` in the data directory."""

import ipaddress
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from agent_session.paths import folder, write_whole

ADDRESS_FILE = "gateway.json"


@dataclass(frozen=True)
class GatewayAddress:
    url: str
    pid: int


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


def announce_gateway(data_dir: Path, url: str) -> None:
    """The newest gateway of this data directory on this machine."""
    with folder(data_dir) as handle:
        write_whole(handle, ADDRESS_FILE, orjson.dumps(asdict(GatewayAddress(url, os.getpid()))))


def read_gateway(data_dir: Path) -> GatewayAddress | None:
    """As it last said; it may be dead by now."""
    try:
        raw = orjson.loads((data_dir / ADDRESS_FILE).read_bytes())
        return GatewayAddress(str(raw["url"]), int(raw["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def withdraw_gateway(data_dir: Path) -> None:
    """Unless another has taken its place."""
    found = read_gateway(data_dir)
    if found is not None and found.pid == os.getpid():
        forget_gateway(data_dir)


def forget_gateway(data_dir: Path) -> None:
    """What a dead one said."""
    (data_dir / ADDRESS_FILE).unlink(missing_ok=True)

"""What stands on the volume about a session's heartbeat, beside its workspace, out of the sandbox's reach.

`heartbeat.json` is what a person set and approved, signed with the key of the data directory: Temporal's schedule
holds nothing but the session's key, so who merely reaches Temporal sets no target and approves nothing (I10).
`heartbeat-skips.json` is what the activity remembers from beat to beat. Synchronous: callers go through a thread.
"""

import hmac
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, cast

import orjson

from agent_session.domain.authority import sign_stored
from agent_session.domain.schedules import LAST
from agent_session.domain.wire import from_wire, to_wire
from agent_session.paths import TooLarge, UnsafePath, read_regular, write_whole
from agent_session.transcript.volume import Volume

HEARTBEAT_FILE, SKIPS_FILE = "heartbeat.json", "heartbeat-skips.json"
FILE_BYTES = 16 * 1024


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """What a person has set. Times are seconds since the epoch."""

    every_s: int = 1_800
    jitter_s: int = 0
    active: str = ""  #: `08:00-23:00`, in `time_zone`; empty: always
    time_zone: str = "UTC"
    target: str = LAST  #: last, none or `<channel>:<place>`
    set_s: int = 0
    approved: str = ""  #: sha256 of the HEARTBEAT.md that may be run; empty: none
    approved_by: str = ""  #: principal, for people to read; never authority
    approved_s: int = 0
    mac: str = ""


@dataclass(frozen=True, kw_only=True)
class Skips:
    """Beats that never came to the session."""

    reason: str = ""  #: why the last beat was skipped, a word of `SKIPS`; empty: it was sent
    since_s: int = 0
    count: int = 0  #: in a row, for this reason
    last_s: int = 0
    told: str = ""  #: the reason that the session knows of
    asked: str = ""  #: sha256 of the HEARTBEAT.md that a person was asked about


def read_heartbeat(volume: Volume, key: str, secret: bytes) -> Heartbeat | None:
    """None where none is set, or this key did not sign it. Errors: VolumeUnavailable."""
    raw = _read(volume, key, HEARTBEAT_FILE)
    found = from_wire(Heartbeat, raw)
    return found if raw and hmac.compare_digest(found.mac.encode(), _mac(secret, key, found).encode()) else None


def write_heartbeat(volume: Volume, key: str, secret: bytes, heartbeat: Heartbeat) -> None:
    """Errors: VolumeUnavailable, OSError."""
    signed = replace(heartbeat, mac=_mac(secret, key, heartbeat))
    with volume.session_folder(key, create=True) as handle:
        write_whole(handle, HEARTBEAT_FILE, orjson.dumps(to_wire(signed)))


def forget_heartbeat(volume: Volume, key: str) -> bool:
    """Whether there was one. Errors: VolumeUnavailable."""
    found = False
    with suppress(FileNotFoundError), volume.session_folder(key) as handle:
        for name in (SKIPS_FILE, HEARTBEAT_FILE):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=handle)
                found = name == HEARTBEAT_FILE
        os.fsync(handle)
    return found


def read_skips(volume: Volume, key: str) -> Skips:
    """Errors: VolumeUnavailable."""
    return from_wire(Skips, _read(volume, key, SKIPS_FILE))


def write_skips(volume: Volume, key: str, skips: Skips) -> None:
    """Only where a heartbeat is set, so that no folder is made for a session that never was. Errors:
    VolumeUnavailable, OSError."""
    with suppress(FileNotFoundError), volume.session_folder(key) as handle:
        write_whole(handle, SKIPS_FILE, orjson.dumps(to_wire(skips)))


def _read(volume: Volume, key: str, name: str) -> dict[str, Any]:
    try:
        with volume.session_folder(key) as handle:
            raw: Any = orjson.loads(read_regular(handle, name, FILE_BYTES))
    except (FileNotFoundError, UnsafePath, TooLarge, orjson.JSONDecodeError):
        return {}
    return cast(dict[str, Any], raw) if isinstance(raw, dict) else {}


def _mac(secret: bytes, key: str, heartbeat: Heartbeat) -> str:
    return sign_stored(secret, "heartbeat", key, to_wire(replace(heartbeat, mac="")))

"""The record of synthetic probes, `probes.jsonl` in the data directory: one JSON object a line, newest last.

`at` (seconds since the epoch), `channel`, `ok`, `seconds`, `problem` (empty when it went through). At most 1 MiB is
kept, so years of nights.
"""

import fcntl
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from agent_session.paths import folder, open_regular

FILE = "probes.jsonl"
MOST_BYTES = 1024 * 1024
TAIL_BYTES = 128 * 1024
SHOWN_S = 3 * 86_400.0  #: a channel that was not among the probes for so long has been removed
PROBLEM_CHARS = 500


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How one channel did."""

    channel: str
    ok: bool
    seconds: float
    at: float
    problem: str = ""


def record(data_dir: Path, probes: list[Probe]) -> None:
    """Errors: OSError."""
    lines = b"".join(orjson.dumps(asdict(one), option=orjson.OPT_APPEND_NEWLINE) for one in probes)
    with folder(data_dir) as handle:
        descriptor = open_regular(handle, FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if file.seek(0, os.SEEK_END) + len(lines) > MOST_BYTES:
            file.seek(-MOST_BYTES // 2, os.SEEK_END)
            kept = file.read().partition(b"\n")[2]
            file.truncate(0)
            file.write(kept)
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def last_probes(data_dir: Path) -> dict[str, Probe]:
    """The newest probe of each channel that was probed in the last 3 days of the record; nothing when there is none.
    Days of the record, not of the clock: when all probes stop, all are still known, with their times."""
    try:
        with folder(data_dir) as handle:
            descriptor = open_regular(handle, FILE, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = file.read().splitlines()
    except (OSError, ValueError):
        return {}
    found: dict[str, Probe] = {}
    for line in lines:
        try:
            raw: dict[str, Any] = orjson.loads(line)
            one = Probe(
                channel=str(raw["channel"]),
                ok=bool(raw["ok"]),
                seconds=float(raw["seconds"]),
                at=float(raw["at"]),
                problem=str(raw.get("problem", "")),
            )
        except (ValueError, KeyError, TypeError):
            continue  # torn, or of a later version
        found[one.channel] = one
    newest = max((one.at for one in found.values()), default=0.0)
    return {channel: one for channel, one in found.items() if newest - one.at <= SHOWN_S}

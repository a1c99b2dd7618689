"""How often this process has started, and after how many unclean ends: a crash loop, seen from inside.

Kept in a small file of the machine's folder for temporary files, which outlives a container's restart inside its pod
and nothing else: where `/tmp` is a tmpfs of the container's own, as in compose.yaml, each restart begins to count anew,
and the alert goes by the process's start times that Prometheus saw. One file for each place, role and data directory,
so that processes of a machine count apart.
"""

import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from agent_session.telemetry import metrics

RECENT_S = 300.0
KEPT = 100  #: times of crashes


class Starts:
    """One a process."""

    def __init__(self, role: str, *where: str, folder: Path | None = None) -> None:
        folder = folder or Path(tempfile.gettempdir()) / f"agent-session-{os.getuid()}"
        name = hashlib.sha256("\n".join((role, *where)).encode()).hexdigest()[:16]
        self._role, self._path = role, folder / f"{role}-{name}.json"
        self._known: dict[str, Any] = {}

    def started(self) -> None:
        """Count this start; a start before it that never said `ended` was a crash. A folder that takes nothing costs
        the counts, not the process."""
        known = self._read()
        crashed = bool(known.get("runs"))
        times = [float(one) for one in known.get("crashed_at", ())][-KEPT:]
        self._known = {
            "starts": int(known.get("starts", 0)) + 1,
            "crashes": int(known.get("crashes", 0)) + crashed,
            "crashed_at": [*times, time.time()] if crashed else times,
            "runs": True,
        }
        self._write()
        metrics.starts.labels(self._role).inc(self._known["starts"])
        metrics.crashes.labels(self._role).inc(self._known["crashes"])
        metrics.crashes_recent.labels(self._role).set_function(self.recent)

    def recent(self) -> int:
        """Crashes of the last 5 minutes."""
        return sum(time.time() - one < RECENT_S for one in self._known.get("crashed_at", ()))

    def ended(self) -> None:
        """This one ends as it should."""
        self._known["runs"] = False
        self._write()

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = orjson.loads(self._path.read_bytes())
            return found if found.get("v") == 1 else {}
        except (OSError, ValueError, AttributeError):
            return {}

    def _write(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            if self._path.parent.stat().st_uid != os.getuid():
                return  # somebody else has made it, to have us write where they like
            fresh = self._path.with_suffix(f".{os.getpid()}")
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
                file.write(orjson.dumps({"v": 1, **self._known}))
            os.replace(fresh, self._path)
        except OSError:
            return

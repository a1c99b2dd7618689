"""Put before a worker's import path: every fsync of that process takes `CHAOS_FSYNC_S` longer.

Loaded by the interpreter itself, so it must import nothing of ours and never fail.
"""

import os
import time

_fsync, _pause_s = os.fsync, float(os.environ.get("CHAOS_FSYNC_S", "0"))


def _slow_fsync(descriptor: int) -> None:
    time.sleep(_pause_s)
    _fsync(descriptor)


if _pause_s:
    os.fsync = _slow_fsync

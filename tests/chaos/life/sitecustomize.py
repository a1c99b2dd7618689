"""Put before a worker's import path: what is odd about this life. Loaded by the interpreter itself.

`CHAOS_FSYNC_S`: every fsync of the process takes that much longer. `CHAOS_SKEW_S`: its wall clock is off by
that much, for all that is written in Python (`time.time`, `datetime.now`); the SDK's core, which decides
nothing by the wall clock, keeps the true one. Durations stay right, as they do on a machine whose clock is off.
Must import nothing of ours and never fail.
"""

import ctypes
import gc
import os
import time
from datetime import datetime, timedelta, tzinfo

_pause_s = float(os.environ.get("CHAOS_FSYNC_S", "0"))
_skew_s = float(os.environ.get("CHAOS_SKEW_S", "0"))
_fsync, _time, _time_ns = os.fsync, time.time, time.time_ns
_now, _utcnow = datetime.now, datetime.utcnow


def _slow_fsync(descriptor: int) -> None:
    time.sleep(_pause_s)
    _fsync(descriptor)


def _skewed_now(cls: type, tz: tzinfo | None = None) -> datetime:
    return _now(tz) + timedelta(seconds=_skew_s)


def _skewed_utcnow(cls: type) -> datetime:
    return _utcnow() + timedelta(seconds=_skew_s)


def _skew() -> None:
    time.time = lambda: _time() + _skew_s
    time.time_ns = lambda: _time_ns() + int(_skew_s * 1e9)
    # its own dictionary: a subclass in its place would be another type for pydantic and protobuf
    names = gc.get_referents(datetime.__dict__)[0]
    names["now"], names["utcnow"] = classmethod(_skewed_now), classmethod(_skewed_utcnow)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime))


if _skew_s:
    _skew()
if _pause_s:
    os.fsync = _slow_fsync

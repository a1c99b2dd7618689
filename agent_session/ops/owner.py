"""Who owns a data directory: whoever holds the lock, not whoever wrote a pid (single-supervisor rule).

The lock dies with its process, so what a dead process left behind is simply taken over. Clients hold a
shared lock, so that a service that was started for them knows when the last one has gone.
"""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson

from agent_session.connection import SERVICE_FILE, Service, read_service
from agent_session.paths import is_locked

OWNER_LOCK, CLIENTS_LOCK = "up.lock", "clients.lock"


class OwnedByAnother(Exception):
    """Another service owns the data directory; the message names it."""


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


@contextmanager
def ownership(data_dir: Path) -> Generator[None]:
    """Own the directory while inside. Errors: OwnedByAnother."""
    descriptor = _open(data_dir / OWNER_LOCK)
    try:
        if not _try_to_own(descriptor):
            owner = read_service(data_dir)
            who = f"process {owner.pid} (Temporal on {owner.address})" if owner else "another process"
            raise OwnedByAnother(
                f"data directory {data_dir} is already served by {who}: use it, stop it, or choose another --data-dir"
            )
        yield
    finally:
        os.close(descriptor)


def _try_to_own(descriptor: int) -> bool:
    """A few tries: somebody who only looks (`is_owned`) holds the lock for an instant."""
    for _ in range(5):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.02)
    return False


def is_owned(data_dir: Path) -> bool:
    """Whether a service runs on this directory right now; no where that cannot be told (a read-only volume)."""
    with suppress(OSError):
        return data_dir.exists() and _is_held(data_dir / OWNER_LOCK, fcntl.LOCK_SH)
    return False


def _is_held(path: Path, kind: int) -> bool:
    """Whether somebody holds the lock in a way that keeps this kind out."""
    return is_locked(_open(path), kind)


def announce(data_dir: Path, service: Service) -> None:
    """Write `service.json` in one step."""
    temporary = data_dir / f".{SERVICE_FILE}.{os.getpid()}"
    temporary.write_bytes(orjson.dumps(service.__dict__, option=orjson.OPT_INDENT_2))
    temporary.chmod(0o600)
    os.replace(temporary, data_dir / SERVICE_FILE)


def withdraw(data_dir: Path) -> None:
    (data_dir / SERVICE_FILE).unlink(missing_ok=True)


@contextmanager
def being_a_client(data_dir: Path) -> Generator[None]:
    """While inside, a service that was started for its clients stays up."""
    descriptor = _open(data_dir / CLIENTS_LOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def has_clients(data_dir: Path) -> bool:
    return _is_held(data_dir / CLIENTS_LOCK, fcntl.LOCK_EX)

"""The address of `live.sock`. A Unix socket's path holds about 100 bytes; a data directory's may be longer,
so on Linux a long one is reached through a directory handle."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

SOCKET = "live.sock"
LONGEST_PATH_BYTES = 100


@contextmanager
def socket_address(data_dir: Path) -> Generator[str]:
    """A path that `bind` and `connect` take, valid while inside."""
    path = data_dir / SOCKET
    if len(os.fsencode(path)) <= LONGEST_PATH_BYTES or not sys.platform.startswith("linux"):
        yield str(path)
        return
    handle = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)

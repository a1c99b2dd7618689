"""The data directory, as a volume that may go away.

Nothing is created on a volume that lacks its marker file: an empty mount point is a fault, not a new
world. Knows where a session's folder is; a session key is never a path (only safe characters and a
digest of it are).
"""

import hashlib
import os
import re
import secrets
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import orjson

from agent_session.paths import folder, folder_below, write_whole

MARKER = ".agent-session-volume"
KEY_FILE = "mac.key"
WORKSPACE_FILE = "workspace.path"  #: names a session's workspace when it is not its own folder


class VolumeUnavailable(OSError):
    """The volume is away or not ours: nothing was read or written. Retry later."""


class NotAVolume(Exception):
    """A directory that exists without the marker: the message says how to make it a volume."""


class Volume:
    """`<data>` with its sessions."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def check(self) -> None:
        """Errors: VolumeUnavailable."""
        try:
            os.stat(self.root / MARKER)
        except OSError as error:
            raise VolumeUnavailable(f"{self.root} has no {MARKER}: the volume is not mounted") from error

    def create(self) -> None:
        """Make `<data>` with marker and signing key, where the directory does not exist yet: in one step,
        so that nobody sees it half made. Idempotent."""
        self.root.parent.mkdir(parents=True, exist_ok=True)
        made = self.root.with_name(f".{self.root.name}-{uuid.uuid4().hex}")
        made.mkdir(mode=0o700)
        Volume(made).initialise()
        try:
            os.rename(made, self.root)
        except OSError:  # another process was quicker
            shutil.rmtree(made)

    def initialise(self) -> None:
        """Put the marker and the signing key into an existing directory (`agent-session init`).
        Idempotent: what is there stays."""
        os.chmod(self.root, 0o700)
        with folder(self.root) as handle:
            if not (self.root / KEY_FILE).exists():
                write_whole(handle, KEY_FILE, secrets.token_hex(32).encode())
            if not (self.root / MARKER).exists():
                write_whole(handle, MARKER, orjson.dumps({"v": 1, "id": uuid.uuid4().hex}))

    def create_or_check(self) -> None:
        """What `up` does at start. Errors: NotAVolume."""
        if not self.root.exists():
            self.create()
        elif not (self.root / MARKER).exists():
            raise NotAVolume(
                f"data directory {self.root} exists but has no {MARKER}: an unmounted volume, or a new one? "
                f"If it is new, run: agent-session init --data-dir {self.root}"
            )

    def signing_key(self, key_file: Path | None = None) -> bytes:
        """The key that signs messages (I10). Errors: VolumeUnavailable."""
        path = key_file or self.root / KEY_FILE
        try:
            return path.read_bytes().strip()
        except OSError as error:
            raise VolumeUnavailable(f"the signing key {path} cannot be read: {error.strerror}") from error

    def folder_name(self, key: str) -> tuple[str, str, str]:
        """`sessions`, two hex digits, and up to 40 safe characters of the key with its sha256."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", key)[:40].lstrip(".") or "_"
        return "sessions", digest[:2], f"{safe}-{digest}"

    def path_of(self, key: str) -> Path:
        """For showing to a person; reading and writing go through `session_folder`."""
        return self.root.joinpath(*self.folder_name(key))

    @contextmanager
    def session_folder(self, key: str, *below: str, create: bool = False) -> Generator[int]:
        """A handle on the session's folder, or on one below it. Errors: VolumeUnavailable;
        FileNotFoundError when there is none and `create` is not set."""
        with self._root() as root, folder_below(root, *self.folder_name(key), *below, create=create) as handle:
            yield handle

    @contextmanager
    def _root(self) -> Generator[int]:
        """A handle on the volume whose marker was seen through that very handle."""
        try:
            handle = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise VolumeUnavailable(f"{self.root} cannot be opened: {error.strerror}") from error
        try:
            try:
                os.stat(MARKER, dir_fd=handle)
            except OSError as error:
                raise VolumeUnavailable(f"{self.root} has no {MARKER}: the volume is not mounted") from error
            yield handle
        finally:
            os.close(handle)

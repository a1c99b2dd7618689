"""Definitions of schedules on the volume: one small signed file a schedule, `schedules/<name>.json` in the session's
folder, beside its workspace and out of the sandbox's reach.

Synchronous: callers go through a thread. Knows nothing of Temporal.
"""

import os
import uuid
from contextlib import suppress
from typing import Any, cast

import orjson

from agent_session.domain.schedules import NAME, Definition, NoSuchSchedule, definition_from, signed
from agent_session.domain.wire import Wire, to_wire
from agent_session.paths import TooLarge, UnsafePath, read_regular, write_whole
from agent_session.transcript.volume import Volume, VolumeUnavailable

FOLDER, ENDING = "schedules", ".json"
FILE_BYTES = 1024 * 1024  #: 64 KiB of words, as JSON may write them


class Forged(Exception):
    """A definition that the key of this data directory did not sign, or that cannot be read."""


class Definitions:
    """Those of all sessions of a volume. Errors of all methods: VolumeUnavailable."""

    def __init__(self, volume: Volume, secret: bytes) -> None:
        self._volume, self._secret = volume, secret

    def names(self, key: str) -> list[str]:
        try:
            with self._volume.session_folder(key, FOLDER) as handle:
                files = os.listdir(handle)
        except FileNotFoundError:
            return []
        found = (name.removesuffix(ENDING) for name in files if name.endswith(ENDING))
        return sorted(name for name in found if NAME.match(name))

    def read(self, key: str, name: str) -> Definition:
        """Errors: NoSuchSchedule, Forged."""
        try:
            with self._volume.session_folder(key, FOLDER) as handle:
                raw: Any = orjson.loads(read_regular(handle, name + ENDING, FILE_BYTES))
        except FileNotFoundError:
            raise NoSuchSchedule(f"session {key!r} has no schedule {name!r}") from None
        except (UnsafePath, TooLarge, orjson.JSONDecodeError) as error:
            raise Forged(f"the definition of schedule {name!r} cannot be read: {error}") from None
        found = definition_from(self._secret, cast(Wire, raw)) if isinstance(raw, dict) else None
        if found is None or (found.session, found.name) != (key, name):
            raise Forged(f"the definition of schedule {name!r} is not signed: remove it, and make it anew")
        return found

    def put_new(self, definition: Definition) -> Definition | None:
        """Sign and store it; None when the name is taken. In one step: of two who try, one has it."""
        stored = signed(self._secret, definition)
        temporary = f".new-{uuid.uuid4().hex}"
        try:
            with self._volume.session_folder(definition.session, FOLDER, create=True) as handle:
                write_whole(handle, temporary, orjson.dumps(to_wire(stored)), mode=0o600)
                try:
                    os.link(temporary, definition.name + ENDING, src_dir_fd=handle, dst_dir_fd=handle)
                except FileExistsError:
                    return None
                finally:
                    os.unlink(temporary, dir_fd=handle)
                os.fsync(handle)
        except VolumeUnavailable:
            raise
        except OSError as error:  # full, or read-only
            raise VolumeUnavailable(f"{self._volume.root} cannot be written: {error.strerror}") from error
        return stored

    def remove(self, key: str, name: str) -> None:
        """Idempotent."""
        with suppress(FileNotFoundError):
            with self._volume.session_folder(key, FOLDER) as handle:
                os.unlink(name + ENDING, dir_fd=handle)
                os.fsync(handle)

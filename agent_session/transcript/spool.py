"""Write-once files of a session, named by the sha256 of what they hold: long texts, attachments,
spilled messages. A reference is such a name, valid only in its own session (I11)."""

import hashlib
import mimetypes
import re

from agent_session.domain.limits import SPOOL_BYTES
from agent_session.domain.messages import Attachment
from agent_session.paths import UnsafePath, read_regular, write_whole
from agent_session.transcript.volume import Volume, VolumeUnavailable

FOLDER = "spool"
NAME_CHARS = 200  #: of an attachment
REFERENCE = re.compile(r"[0-9a-f]{64}\Z")


class BadReference(ValueError):
    """A reference that is no name of a spooled file, or whose content does not fit its name."""


def put(volume: Volume, key: str, data: bytes) -> str:
    """Store `data` and return its reference. Limit: 64 MiB. Errors: VolumeUnavailable, ValueError."""
    if len(data) > SPOOL_BYTES:
        raise ValueError(f"{len(data)} bytes are too many for one message: the limit is {SPOOL_BYTES}")
    ref = hashlib.sha256(data).hexdigest()
    try:
        with volume.session_folder(key, FOLDER, create=True) as handle:
            write_whole(handle, ref, data, mode=0o600)
    except VolumeUnavailable:
        raise
    except OSError as error:  # full, or read-only
        raise VolumeUnavailable(f"{volume.root} cannot be written: {error.strerror}") from error
    return ref


def attach(volume: Volume, key: str, data: bytes, name: str, kind: str = "") -> Attachment:
    """Store a file to go with a message; its media type is told from its name when `kind` does not say, and the
    name is cut to 200 characters. Limit and errors: those of `put`."""
    kind = kind or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Attachment(put(volume, key, data), len(data), kind, name[:NAME_CHARS])


def get(volume: Volume, key: str, ref: str) -> bytes:
    """What the reference names. Errors: BadReference, FileNotFoundError, VolumeUnavailable."""
    if not REFERENCE.match(ref):
        raise BadReference(f"{ref[:80]!r} is no reference: 64 hex digits are")
    try:
        with volume.session_folder(key, FOLDER) as handle:
            data = read_regular(handle, ref, SPOOL_BYTES)
    except UnsafePath as error:
        raise BadReference(str(error)) from error
    if hashlib.sha256(data).hexdigest() != ref:
        raise BadReference(f"the content of {ref[:12]}… does not fit its name")
    return data

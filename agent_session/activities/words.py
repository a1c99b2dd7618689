"""A message as its transcript line will have it: long text and attachments come from the spool."""

import os
import re
from typing import Any

import structlog
from temporalio import activity

from agent_session.domain.limits import INLINE_TEXT_BYTES, SPOOL_BYTES
from agent_session.domain.messages import InboundMessage
from agent_session.operations import Services, workspace_of
from agent_session.paths import UnsafePath, folder, read_regular, write_whole
from agent_session.transcript import spool
from agent_session.transcript.recorder import Words
from agent_session.transcript.volume import VolumeUnavailable

ATTACHMENTS, NAME_BYTES = "attachments", 120
UNREACHABLE = "(it could not be put into the workspace)"

log = structlog.get_logger("agent_session.words")


def words_of(services: Services, key: str, message: InboundMessage) -> Words:
    """Long text stays in the spool, its beginning in the line; attachments are put into the workspace,
    where tools can read them. Errors: BadReference, VolumeUnavailable."""
    fields: dict[str, Any] = {"channel": message.channel}
    for name in ("principal", "sender", "kind", "reply_address"):
        value = getattr(message, name)
        if value and value != "person":
            fields[name] = value
    if activity.in_activity():
        fields["run"] = activity.info().workflow_run_id
    if message.grants:
        fields["grants"] = list(message.grants)
    text = message.text
    if message.text_ref:
        data = spool.get(services.volume, key, message.text_ref)
        text = data[:INLINE_TEXT_BYTES].decode("utf-8", "ignore")
        if len(data) > INLINE_TEXT_BYTES:
            fields |= {"text_ref": message.text_ref, "size": len(data)}
            text += f"\n… the whole text of {len(data)} bytes is in spool/{message.text_ref}"
    if message.attachments:
        fields["attachments"] = [_unpack(services, key, one) for one in message.attachments]
        text += "".join(
            f"\n[attachment: {one['path']} ({one['type']}, {one['size']} bytes)]" for one in fields["attachments"]
        )
    return Words(message.scoped, text, fields)


def _unpack(services: Services, key: str, packed: str) -> dict[str, str]:
    """Put one attachment into the workspace, under a name that leads nowhere else. A workspace that cannot
    take it (a command made a link or a folder of that name) costs the copy, never the turn (I6)."""
    ref, size, kind, name = [*packed.split(" ", 3), "", "", ""][:4]
    data = spool.get(services.volume, key, ref)
    found = {"ref": ref, "size": size, "type": kind, "name": name}
    safe = safe_name(name)
    try:
        with folder(workspace_of(services.volume, key), ATTACHMENTS, create=True) as handle:
            if not _same(handle, safe, data):
                if _is_there(handle, safe):
                    safe = f"{ref[:8]}-{safe}"  # another attachment has that name
                write_whole(handle, safe, data)
    except VolumeUnavailable:
        raise
    except (OSError, UnsafePath) as error:
        log.warning("an attachment could not be put into the workspace", error=str(error)[:300])
        return {**found, "path": f"{UNREACHABLE}: spool/{ref}"}
    return {**found, "path": f"{ATTACHMENTS}/{safe}"}


def safe_name(name: str) -> str:
    """A file name of at most 120 bytes that is no path, keeping its ending."""
    safe = re.sub(r"[^\w. -]", "_", name).lstrip(".") or "file"
    stem, dot, ending = safe.rpartition(".")
    tail = (dot + ending).encode()[-20:] if stem else b""
    head = (stem or ending).encode()[: NAME_BYTES - len(tail)]
    return head.decode("utf-8", "ignore") + tail.decode("utf-8", "ignore")


def _is_there(handle: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=handle, follow_symlinks=False)
        return True
    except FileNotFoundError:
        return False


def _same(handle: int, name: str, data: bytes) -> bool:
    try:
        return read_regular(handle, name, SPOOL_BYTES) == data
    except (OSError, ValueError):
        return False

"""A message as its transcript line will have it: long text and attachments come from the spool."""

import os
import re
from typing import Any

from agent_session.domain.limits import INLINE_TEXT_BYTES, SPOOL_BYTES
from agent_session.domain.messages import InboundMessage
from agent_session.operations import Services, workspace_of
from agent_session.paths import folder, read_regular, write_whole
from agent_session.transcript import spool
from agent_session.transcript.recorder import Words

ATTACHMENTS = "attachments"


def words_of(services: Services, key: str, message: InboundMessage) -> Words:
    """Long text stays in the spool, its beginning in the line; attachments are put into the workspace,
    where tools can read them. Errors: BadReference, VolumeUnavailable."""
    fields: dict[str, Any] = {"channel": message.channel}
    for name in ("principal", "sender", "kind", "reply_address"):
        value = getattr(message, name)
        if value and value != "person":
            fields[name] = value
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
    """Put one attachment into the workspace, under a name that leads nowhere else."""
    ref, size, kind, name = [*packed.split(" ", 3), "", "", ""][:4]
    safe = re.sub(r"[^\w. -]", "_", name).lstrip(".")[:120] or "file"
    data = spool.get(services.volume, key, ref)
    with folder(workspace_of(services.volume, key), ATTACHMENTS, create=True) as handle:
        if not _same(handle, safe, data):
            if _is_there(handle, safe):
                safe = f"{ref[:8]}-{safe}"  # another attachment has that name
            write_whole(handle, safe, data)
    return {"ref": ref, "size": size, "type": kind, "name": name, "path": f"{ATTACHMENTS}/{safe}"}


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

"""What came back of a self-test: its message, heard as an event by the process that runs.

A probe is a process of its own, and Slack hands each event to one connection only. So whoever takes the event of a
test message notes it on the volume, where the probe looks. Two probes at once may miss a note of each other's; then
they listen themselves.
"""

from typing import Any, cast

import orjson

from agent_session.paths import folder, read_regular, write_whole
from agent_session.transcript.volume import Volume, VolumeUnavailable
from channels.slack.events import Json

WORDS = "A self-test of mine; this goes away at once."
FOLDER, FILE, FILE_BYTES = ("channels", "slack"), "heard.json", 65_536
KEPT = 20  #: notes


def is_test(event: Json, me: str) -> bool:
    """Whether it is the app's own test message; `me`: the app's user id."""
    return event.get("type") == "message" and event.get("user") == me and event.get("text") == WORDS


def note(volume: Volume, ts: str) -> None:
    """Errors: VolumeUnavailable, OSError."""
    volume.check()
    with folder(volume.root, *FOLDER, create=True) as handle:
        write_whole(handle, FILE, orjson.dumps([*_read(handle), ts][-KEPT:]))


def was_heard(volume: Volume, ts: str) -> bool:
    """False also where the volume is not to be had: then nobody can say so."""
    try:
        volume.check()
        with folder(volume.root, *FOLDER) as handle:
            return ts in _read(handle)
    except (OSError, VolumeUnavailable):
        return False


def _read(handle: int) -> list[Any]:
    try:
        found: Any = orjson.loads(read_regular(handle, FILE, FILE_BYTES))
    except (FileNotFoundError, orjson.JSONDecodeError):
        return []
    return cast(list[Any], found) if isinstance(found, list) else []

"""`last`: the place that a person wrote from last, as far as it can be pushed to.

Read from the transcript's end, where only signed words stand (I10).
"""

from collections.abc import Collection
from itertools import islice

from agent_session.domain.limits import TAIL_LINES
from agent_session.domain.messages import PERSON
from agent_session.transcript.lines import USER
from agent_session.transcript.reader import backwards
from agent_session.transcript.volume import Volume


def last_place(volume: Volume, key: str, channels: Collection[str] | None = None) -> str:
    """Its address, `<channel>:<place>`; empty where nobody has written from such a place. Who waits at a terminal or
    asks over HTTP names none. `channels`: those that deliver; None: not known. Limit: the last 1,000 lines.
    Errors: VolumeUnavailable.
    """
    for line in islice(backwards(volume, key), TAIL_LINES):
        if line.get("role") != USER or line.get("kind", PERSON) != PERSON:
            continue
        address = str(line.get("reply_address", ""))
        if address and (channels is None or address.partition(":")[0] in channels):
            return address
    return ""

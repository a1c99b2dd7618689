"""What a session is called in Redis: one name for its channel and for its stream.

A digest under the volume's signing key, so that two volumes which share a Redis never meet, even with the same
task queue and the same session keys, and nobody reads a session's key from its name. Must not hold anything else
of the session.
"""

import hmac
from hashlib import sha256

from agent_session.settings import Settings
from agent_session.transcript.volume import Volume

FAMILY = "agent-session:live"  #: what all names begin with: for access rules, `~agent-session:live:*`
DIGITS = 32  #: 128 bits


class Names:
    """Names of one volume and task queue."""

    def __init__(self, secret: bytes, task_queue: str) -> None:
        self._secret = secret
        self._prefix = f"{FAMILY}:{self._digest('queue', task_queue)[: DIGITS // 2]}"
        self._task_queue = task_queue

    def of(self, session: str) -> str:
        return f"{self._prefix}:{self._digest('session', self._task_queue, session)}"

    def _digest(self, *parts: str) -> str:
        text = "\0".join(("live", *(f"{len(part)}:{part}" for part in parts)))
        return hmac.new(self._secret, text.encode(), sha256).hexdigest()[:DIGITS]


def names_of(settings: Settings) -> Names:
    """Reads the signing key. Errors: VolumeUnavailable."""
    return Names(Volume(settings.data_dir).signing_key(settings.mac_key_file), settings.task_queue)

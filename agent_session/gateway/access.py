"""Who may come in, and to what: bearer tokens with scopes and session-key prefixes.

Pure: no I/O, no clock. Keeps I10: what people may do comes from the token, never from a text. A token is known
by its sha256 alone, and every known one is compared, in constant time.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass

READ, SEND, APPROVE, NODE, ADMIN = "read", "send", "approve", "node", "admin"
SCOPES = (READ, SEND, APPROVE, NODE, ADMIN)
OWNER = "owner"  #: the name of the one token of `gateway.token`, or of `up`
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
SHORTEST_TOKEN = 16  #: characters; shorter ones can be guessed


@dataclass(frozen=True, kw_only=True)
class Access:
    """What one token opens. `prefixes`: session keys that begin so; an empty prefix: every session."""

    name: str
    digest: bytes
    scopes: frozenset[str] = frozenset(SCOPES)
    prefixes: tuple[str, ...] = ("",)

    @property
    def principal(self) -> str:
        """Who its messages are from. Ids of messages belong to it."""
        return f"http:{self.name}"

    @property
    def home(self) -> str:
        """Where sessions lie that it may name as it likes."""
        return f"api/{self.name}/"

    def may(self, scope: str) -> bool:
        return scope in self.scopes or ADMIN in self.scopes

    def reaches(self, key: str) -> bool:
        """Whether a session is its to see. A prefix ends at a part of the key: `team` opens `team` and `team/x`,
        not `teamwork`."""
        for prefix in (*self.prefixes, self.home):
            whole = prefix.rstrip("/")
            if prefix == "" or key == whole or key.startswith(f"{whole}/"):
                return True
        return False

    def key_for(self, named: str) -> str:
        """The session that a client means by a name of its own (`X-Session-Key`, `user`): that very one where the
        token reaches it, else one of its home."""
        return named if self.reaches(named) else f"{self.home}{named}"


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()


def access_of(known: Iterable[Access], presented: str) -> Access | None:
    """Whose token it is. Takes as long for a wrong one as for a right one."""
    digest = digest_of(presented)
    found: Access | None = None
    for one in known:
        if hmac.compare_digest(one.digest, digest):
            found = one
    return found


def bearer_of(header: str) -> str:
    """The token of an `Authorization` header; empty when it holds none."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""

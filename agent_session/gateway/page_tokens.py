"""One-time codes of the page and the tokens they are exchanged for: statements signed with the volume's key.

Every gateway on the volume reads them, whichever made them, also after a restart; only the mark of a used code is
stored, under a digest. A statement is `kind.payload.signature`. The token it comes from is part of what is signed and
stands nowhere in it: whoever holds a page's token can neither learn nor guess that one, and nothing derived from a
token outlives it. Keeps I10: a page may never do more than the token it comes from.
"""

import base64
import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from agent_session.gateway.access import Access, digest_of
from agent_session.gateway.errors import Problem
from agent_session.paths import UnsafePath, folder, folder_below
from agent_session.transcript.volume import MARKER, Volume, VolumeUnavailable

CODE_S, PAGE_TOKEN_S = 60, 12 * 3600
CODE, TOKEN = "code1", "page1"  #: kinds with the version of their format; both are signed, each with a key of its own
LONGEST = 400  #: characters
KEY_KEPT_S = 10.0  #: how soon a replaced signing key is seen
USED_FOLDER = "page-codes"  #: in the data directory: one empty file for each code that was used lately
USED = re.compile(r"(\d{1,12})\.([0-9a-f]{16})\.[0-9a-f]{32}")  #: expiry, issuing token, code: the latter keyed digests
EXCHANGES_A_MINUTE = 60  #: of one issuing token, over all gateways
CLOCKS_S = 300  #: marks stay so long behind their code's end: to a machine whose clock is late it has not ended yet


@dataclass(frozen=True)
class _Statement:
    issuer: Access
    until: int  #: seconds since the epoch
    scopes: frozenset[str]
    id: str

    def access(self, digest: bytes) -> Access:
        """What it opens now: its issuing token may have lost rights since."""
        scopes = frozenset(scope for scope in self.scopes if self.issuer.may(scope))
        return replace(self.issuer, digest=digest, scopes=scopes)


class PageTokens:
    """Those of a volume. `known`: the gateway's tokens as they are now."""

    def __init__(self, volume: Volume, key_file: Path | None, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since the epoch, the same on all machines but for seconds."""
        self._volume, self._key_file, self._clock = volume, key_file, clock
        self._secret, self._secret_read = b"", 0.0

    def issue(self, access: Access, scopes: frozenset[str]) -> str:
        """A code for at most these scopes of the access. Errors: VolumeUnavailable."""
        self._volume.check()  # a code could not be exchanged
        return _signed(self._key(), CODE, access, scopes, int(self._clock()) + CODE_S)

    def exchange(self, code: str, known: Sequence[Access]) -> tuple[str, Access] | None:
        """A page's token and what it opens, once for each code, whichever gateway is asked; None for one that is
        unknown, used or too old, or whose token has gone. Blocks on the volume. Errors: VolumeUnavailable, Problem
        429; the code is as good as before then."""
        secret = self._key()
        said = _read(secret, CODE, code, known, self._clock())
        if said is None or not self._use(secret, said):
            return None
        token = _signed(secret, TOKEN, said.issuer, said.scopes, int(self._clock()) + PAGE_TOKEN_S)
        return token, said.access(digest_of(token))

    def access_of(self, presented: str, known: Sequence[Access]) -> Access | None:
        """What a page's token opens now: never more than the token it comes from. Needs the volume for the first one
        only. Errors: VolumeUnavailable."""
        if not presented.startswith(f"{TOKEN}."):
            return None
        said = _read(self._key(), TOKEN, presented, known, self._clock())
        return said.access(digest_of(presented)) if said is not None else None

    def _key(self) -> bytes:
        """Read again every few seconds; one that cannot be read changes nothing. Errors: VolumeUnavailable."""
        now = time.monotonic()
        if not self._secret or now - self._secret_read >= KEY_KEPT_S:
            try:
                found = self._volume.signing_key(self._key_file)
                if not found:
                    raise VolumeUnavailable("the signing key is empty")  # anybody could sign with that
                self._secret = found
            except VolumeUnavailable:
                if not self._secret:
                    raise
            self._secret_read = now
        return self._secret

    def _use(self, secret: bytes, code: _Statement) -> bool:
        """Whether this is its first use: one gateway alone can make its mark, which is durable when it says so."""
        try:
            with folder(self._volume.root) as root:
                os.stat(MARKER, dir_fd=root)  # an empty mount point knows of no used code
                with folder_below(root, USED_FOLDER, create=True) as handle:
                    issuer = _name(secret, "issuer", code.issuer.digest, 16)
                    self._refuse_too_many(handle, issuer)
                    return _mark(handle, f"{code.until}.{issuer}.{_name(secret, 'used', code.id.encode(), 32)}")
        except (OSError, UnsafePath) as error:
            raise VolumeUnavailable(f"{self._volume.root}/{USED_FOLDER} cannot be used: {error}") from error

    def _refuse_too_many(self, handle: int, issuer: str) -> None:
        """Also removes marks that are no longer needed. Gateways that are asked at the same moment may let in a few
        more. Errors: Problem 429."""
        now, lately = self._clock(), 0
        for name in os.listdir(handle):
            if (found := USED.fullmatch(name)) is None:
                continue
            if int(found[1]) + CLOCKS_S < now:
                with suppress(OSError):  # another gateway was quicker
                    os.unlink(name, dir_fd=handle)
            lately += found[2] == issuer and int(found[1]) > now
        if lately >= EXCHANGES_A_MINUTE:
            told = f"this token's codes were exchanged {lately} times within a minute: try again later"
            raise Problem(429, "too_many_exchanges", told, None, {"Retry-After": str(CODE_S // 4)})


def _mark(handle: int, name: str) -> bool:
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=handle))
    except FileExistsError:
        return False
    try:
        os.fsync(handle)
    except OSError:
        os.unlink(name, dir_fd=handle)  # nobody was given a token for it
        raise
    return True


def _signed(secret: bytes, kind: str, issuer: Access, scopes: frozenset[str], until: int) -> str:
    payload = orjson.dumps([until, sorted(scopes), secrets.token_urlsafe(16)])
    text = f"{kind}.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}"
    return f"{text}.{_signature(_key_for(secret, kind), issuer, text.encode())}"


def _read(secret: bytes, kind: str, presented: str, known: Sequence[Access], now: float) -> _Statement | None:
    """None unless it is of that kind, signed for a token that is known, and not over. Takes as long for a wrong
    signature as for a right one, whosever it is."""
    text, _, given = presented.rpartition(".")
    if not text.startswith(f"{kind}.") or len(presented) > LONGEST or not presented.isascii():
        return None
    key, signed = _key_for(secret, kind), text.encode()
    issuer: Access | None = None
    for one in known:
        if hmac.compare_digest(_signature(key, one, signed), given):
            issuer = one
    if issuer is None:
        return None
    payload = text.removeprefix(f"{kind}.")
    until, scopes, id = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return _Statement(issuer, until, frozenset(scopes), id) if now < until else None


def _key_for(secret: bytes, purpose: str) -> bytes:
    """A key of its own: what is signed for anything else is none of these, nor the other way round."""
    return hmac.digest(secret, f"agent-session page {purpose}".encode(), hashlib.sha256)


def _signature(key: bytes, issuer: Access, text: bytes) -> str:
    return hmac.digest(key, issuer.digest + text, hashlib.sha256).hex()


def _name(secret: bytes, purpose: str, value: bytes, digits: int) -> str:
    """What stands for a secret value in a file's name."""
    return hmac.digest(_key_for(secret, purpose), value, hashlib.sha256).hex()[:digits]

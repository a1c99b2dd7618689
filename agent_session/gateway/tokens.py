"""The gateway's tokens: from settings, or from a file that is read again when it changes (rotation without a
restart).

A token file holds either one token on a line, or TOML with named ones:

    [tokens.phone]
    token = "…"                   # or: sha256 = "64 hex digits"
    scopes = ["read", "send"]     # default: read, send
    prefixes = ["main", "team"]   # sessions that it reaches; default: its own, api/phone/…; "" means all
"""

import os
import re
import secrets
import stat
import tomllib
from pathlib import Path
from typing import Any, cast

import structlog

from agent_session.gateway.access import NAME, OWNER, READ, SCOPES, SEND, SHORTEST_TOKEN, Access, digest_of
from agent_session.gateway.address import is_loopback
from agent_session.paths import folder, write_whole
from agent_session.settings import BadSettings, GatewaySettings

TOKEN_FILE = "gateway.token"  #: made by `up`, in the data directory
HEX = re.compile(r"[0-9a-f]{64}")

log = structlog.get_logger("agent_session.gateway")


class Tokens:
    """Those that are valid now."""

    def __init__(self, settings: GatewaySettings, data_dir: Path) -> None:
        """Errors: BadSettings."""
        self._fixed = settings.token.get_secret_value()
        self._path = settings.token_file or (None if self._fixed else data_dir / TOKEN_FILE)
        self._seen: tuple[int, int, int, int] | None = None
        self._known: tuple[Access, ...] = ()
        if self._fixed and settings.token_file:
            raise BadSettings("gateway.token and gateway.token_file are both set: keep one of them")
        if self._fixed:
            self._known = (_owner(self._fixed, "gateway.token"),)
        else:
            self._read()

    def known(self) -> tuple[Access, ...]:
        """A file that cannot be used, or is away, changes nothing and is logged: those of before stay valid."""
        try:
            self._read()
        except BadSettings as error:
            log.error("the token file cannot be used; its last tokens stay valid", error=str(error))
        return self._known

    def _read(self) -> None:
        if self._path is None:
            return
        try:
            about = os.stat(self._path)
        except OSError as error:
            raise BadSettings(f"the token file {self._path} cannot be read: {error.strerror}") from None
        seen = (about.st_mtime_ns, about.st_ctime_ns, about.st_size, about.st_ino)  # a chmod changes the second
        if seen == self._seen:
            return
        self._seen = seen  # also of a bad one: it is named once
        if open_to_others(about):
            raise BadSettings(f"the token file {self._path} can be read by others: chmod 600 {self._path}")
        try:
            text = self._path.read_text(errors="replace")
        except OSError as error:
            self._seen = None  # tried again
            raise BadSettings(f"the token file {self._path} cannot be read: {error.strerror}") from None
        self._known = tokens_of(text, str(self._path))


def open_to_others(about: os.stat_result) -> bool:
    """Whether a file with a secret can be read by more than us and root. One of root's that our own group may read and
    nobody else is a Secret that Kubernetes mounted: `fsGroup` makes 0440 of 0400."""
    mode = stat.S_IMODE(about.st_mode) & 0o077
    mounted = about.st_uid == 0 != os.geteuid() and about.st_gid in {os.getegid(), *os.getgroups()}
    return bool(mode) and not (mode == stat.S_IRGRP and mounted)


def tokens_of(text: str, origin: str) -> tuple[Access, ...]:
    """The tokens of a file. Errors: BadSettings, which never holds one of them."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) == 1 and "=" not in lines[0].rstrip("=") and not lines[0].startswith("["):
        return (_owner(lines[0], origin),)
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise BadSettings(f"{origin} is neither one token on a line nor TOML with [tokens.NAME] tables") from None
    tables = tree.get("tokens")
    if not isinstance(tables, dict) or not tables:
        raise BadSettings(f"{origin} holds no [tokens.NAME] table")
    found = [_named(name, table, origin) for name, table in cast(dict[str, Any], tables).items()]
    if len({one.digest for one in found}) < len(found):
        raise BadSettings(f"{origin}: two names have the same token")
    return tuple(found)


def _owner(token: str, origin: str) -> Access:
    return Access(name=OWNER, digest=digest_of(_long_enough(token, origin)))


def _named(name: str, table: Any, origin: str) -> Access:
    where = f"{origin}: tokens.{name}"
    if not NAME.fullmatch(name):
        raise BadSettings(f"{where}: a name is up to 40 of a-z 0-9 . _ -")
    if not isinstance(table, dict):
        raise BadSettings(f"{where} is no table")
    given = cast(dict[str, Any], table)
    if unknown := set(given) - {"token", "sha256", "scopes", "prefixes"}:
        raise BadSettings(
            f"{where}: {', '.join(sorted(unknown))} is no field; there are token, sha256, scopes, prefixes"
        )
    scopes = _words(given.get("scopes", [READ, SEND]), where, "scopes")
    if unknown := set(scopes) - set(SCOPES):
        raise BadSettings(f"{where}: {', '.join(sorted(unknown))} is no scope; there are {', '.join(SCOPES)}")
    token, sha256 = str(given.get("token", "")), str(given.get("sha256", "")).lower()
    if bool(token) == bool(sha256) or (sha256 and not HEX.fullmatch(sha256)):
        raise BadSettings(f"{where} needs either token, or sha256 with 64 hex digits")
    digest = digest_of(_long_enough(token, where)) if token else bytes.fromhex(sha256)
    prefixes = _words(given.get("prefixes", []), where, "prefixes")
    return Access(name=name, digest=digest, scopes=frozenset(scopes), prefixes=prefixes)


def _words(value: Any, where: str, field: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in cast(list[Any], value)):
        raise BadSettings(f"{where}: {field} must be a list of texts")
    return tuple(cast(list[str], value))


def _long_enough(token: str, origin: str) -> str:
    if len(token) < SHORTEST_TOKEN or not token.isascii() or any(one.isspace() for one in token):
        raise BadSettings(f"{origin}: a token is at least {SHORTEST_TOKEN} ASCII characters without spaces")
    return token


def refuse_open_without_token(settings: GatewaySettings) -> None:
    """Errors: BadSettings, for an address that others reach without a token that somebody chose."""
    if not is_loopback(settings.host) and not (settings.token.get_secret_value() or settings.token_file):
        raise BadSettings(
            f"gateway.host {settings.host} is open to other machines but no token is set\n"
            "  set gateway.token_file (or gateway.token), or bind to 127.0.0.1"
        )
    if settings.trusted_proxies and not settings.proxy_secret.get_secret_value():
        raise BadSettings(
            "gateway.trusted_proxies is set and gateway.proxy_secret is not: no proxy would be trusted\n"
            "  set gateway.proxy_secret, and let the proxy send it as X-Proxy-Secret"
        )


def make_token(data_dir: Path) -> Path:
    """What `up` does at start: a token of its own (0600), unless there is one. Returns its file."""
    path = data_dir / TOKEN_FILE
    if not path.exists():
        with folder(data_dir) as handle:
            write_whole(handle, TOKEN_FILE, f"{secrets.token_urlsafe(32)}\n".encode())
    return path

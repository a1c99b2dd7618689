"""Which gateway a command talks to, and with which token.

Settings come in layers: flags, environment, config.toml. A token goes to the URL that it was configured for and to no
other: a layer's credentials count for its own URL, or, if it names none, for that of a layer below; never for another
one that a layer above names. A fingerprint is no secret: it counts wherever its layer names no other URL. Reads a
token's file, sends nothing.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic_settings import EnvSettingsSource

from agent_session.gateway.address import is_loopback, read_gateway
from agent_session.gateway.tokens import TOKEN_FILE
from agent_session.settings import CONFIG_FILE, PREFIX, BadSettings, GatewaySettings, Settings

TOKEN_BYTES = 4096
DEFAULT_PORTS = {"http": 80, "https": 443}
FINGERPRINT = re.compile(r"[0-9a-f]{64}")
HOW_TO_GIVE = (
    "  give --token-file FILE, or set AGENT_SESSION_GATEWAY__URL together with AGENT_SESSION_GATEWAY__TOKEN_FILE"
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A gateway and the credentials for it."""

    url: str  #: without a slash at the end
    token: str = field(repr=False)
    source: str  #: where the token came from, for a person to read
    fingerprint: bytes = b""  #: sha256 of the certificate that it must show; empty: a known authority vouches


@dataclass(frozen=True)
class _Layer:
    """What one origin says of the gateway."""

    name: str
    given: Mapping[str, Any] = field(repr=False)

    @property
    def url(self) -> str:
        return normal_url(str(self.given.get("url") or ""))

    @property
    def has_token(self) -> bool:
        return bool(self.given.get("token") or self.given.get("token_file"))


def target_of(settings: Settings) -> Target:
    """For `gateway.url`, which is set. Errors: BadSettings, which never holds a token."""
    url, layers = normal_url(settings.gateway.url), _layers(settings)
    about_it = [layer for layer in layers if layer.url in ("", url)]
    fingerprint = _fingerprint(str(_first(about_it, "tls_fingerprint") or ""))
    plain = GatewaySettings.model_validate({"allow_plain_http": _first(about_it, "allow_plain_http") or False})
    _refuse_clear_text(url, fingerprint, plain.allow_plain_http)
    for layer in _usable(settings, url, layers):
        if layer.has_token:
            token, source = _token_of(layer)
            return Target(url=url, token=token, source=source, fingerprint=fingerprint)
    path = settings.data_dir / TOKEN_FILE
    if _is_own(settings, url) and path.exists():
        return Target(url=url, token=_read(path), source=str(path), fingerprint=fingerprint)
    raise BadSettings(_why_no_token(url, [layer for layer in layers if layer.has_token]))


def normal_url(given: str) -> str:
    """One spelling for the same gateway; empty stays empty. Errors: BadSettings."""
    if not given:
        return ""
    try:
        parts = urlsplit(given.strip())
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError as error:
        raise BadSettings(f"gateway.url is no URL: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise BadSettings("gateway.url holds a user name or password: take it out, and put the token into a file")
    if parts.scheme not in DEFAULT_PORTS or not host or parts.query or parts.fragment:
        raise BadSettings(
            f"gateway.url {given!r} is no gateway's address: write https://host or http://127.0.0.1:18790"
        )
    shown = f"[{host}]" if ":" in host else host
    where = shown if port in (None, DEFAULT_PORTS[parts.scheme]) else f"{shown}:{port}"
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")  # OpenAI's clients want it there
    return f"{parts.scheme}://{where}{path}"


def _layers(settings: Settings) -> list[_Layer]:
    """From the strongest to the weakest."""
    found = (settings.flags, EnvSettingsSource(Settings)(), settings.toml)
    names = ("flags", "environment", str(settings.data_dir / CONFIG_FILE))
    return [_Layer(name, tree.get("gateway") or {}) for name, tree in zip(names, found, strict=True)]


def _usable(settings: Settings, url: str, layers: list[_Layer]) -> list[_Layer]:
    """Layers whose credentials are meant for this URL. `gateway.token` without a URL is what the gateway of this data
    directory asks for, so it is for that one alone, unless a weaker layer names the URL."""
    own = _is_own(settings, url)
    named = next((at for at, layer in enumerate(layers) if layer.url), 0)
    return [layer for at, layer in enumerate(layers) if layer.url == url or (not layer.url and (at <= named or own))]


def _is_own(settings: Settings, url: str) -> bool:
    """Whether the gateway of this data directory serves there, by a process that lives."""
    found = read_gateway(settings.data_dir)
    return found is not None and normal_url(found.url) == url


def _first(layers: list[_Layer], name: str) -> Any:
    return next((layer.given[name] for layer in layers if layer.given.get(name)), None)


def _token_of(layer: _Layer) -> tuple[str, str]:
    """The token, and what a person calls its source. Errors: BadSettings."""
    token, path = layer.given.get("token"), layer.given.get("token_file")
    if token and path:
        raise BadSettings(f"gateway.token and gateway.token_file are both set ({layer.name}): keep one of them")
    if path:
        return _read(Path(path).expanduser()), f"the file {path}"
    text = token.get_secret_value() if isinstance(token, SecretStr) else str(token)
    in_environment = layer.name == "environment"
    source = f"{PREFIX}GATEWAY__TOKEN" if in_environment else f"gateway.token ({layer.name})"
    return _checked(text, source), source


def _read(path: Path) -> str:
    """A token's file. Errors: BadSettings."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISREG(mode) and stat.S_IMODE(mode) & 0o077:
                raise BadSettings(f"the token file {path} can be read by others: chmod 600 {path}")
            raw = file.read(TOKEN_BYTES + 1)
    except OSError as error:
        raise BadSettings(f"the token file {path} cannot be read: {error.strerror}") from None
    lines = [line.strip() for line in raw.decode("utf-8", "replace").splitlines()]
    tokens = [line for line in lines if line and not line.startswith("#")]
    if len(raw) > TOKEN_BYTES or len(tokens) != 1 or tokens[0].startswith("["):
        raise BadSettings(f"the token file {path} must hold one token on one line, and nothing else")
    return _checked(tokens[0], f"the file {path}")


def _checked(token: str, source: str) -> str:
    """It goes into a header. Errors: BadSettings."""
    if not token.isascii() or not token.isprintable() or any(char.isspace() for char in token):
        raise BadSettings(f"the token of {source} has characters that a token cannot have: copy it again")
    return token


def _fingerprint(given: str) -> bytes:
    """Errors: BadSettings."""
    digits = given.replace(":", "").strip().lower()
    if digits and not FINGERPRINT.fullmatch(digits):
        raise BadSettings(
            "gateway.tls_fingerprint is no sha256: it has 64 hex digits\n"
            "  openssl x509 -in cert.pem -noout -fingerprint -sha256 shows it"
        )
    return bytes.fromhex(digits)


def _refuse_clear_text(url: str, fingerprint: bytes, allowed: bool) -> None:
    """Errors: BadSettings."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return
    if fingerprint:
        raise BadSettings(f"gateway.tls_fingerprint is set, but {url} has no TLS: write https://")
    if not is_loopback(parts.hostname or "") and not allowed:
        raise BadSettings(
            f"{url} would carry the token in clear to another machine: write https://\n"
            "  in a network that you trust, set gateway.allow_plain_http = true"
        )


def _why_no_token(url: str, others: list[_Layer]) -> str:
    belongs = [
        f"\n  the one of {layer.name} is for {layer.url or 'a gateway that it does not name'}" for layer in others
    ]
    return f"there is no token for {url}{''.join(belongs)}\n{HOW_TO_GIVE}"

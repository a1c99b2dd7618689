"""The passwords of compose.yaml, generated once into `.secrets/`.

The folder is 0700, so on this machine only its owner reads them. The files in it are 0444: compose mounts a file as it
is, and in a container it is read by a user of that image (postgres, redis, 10001), who does not own it. What a client
here uses, `client.token`, is 0600.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

CLIENT_TOKEN = "client.token"
GATEWAY_TOKEN = "AGENT_SESSION_GATEWAY__TOKEN"
LIVE_URL = "AGENT_SESSION_LIVE__URL"
GENERATED = ("postgres", "redis", "grafana")
#: values of somebody else's; an empty file means: not used. Taken from the environment of `make compose-up`
OPTIONAL = (
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "AGENT_SESSION_SLACK__BOT_TOKEN",
    "AGENT_SESSION_SLACK__APP_TOKEN",
)


def make_secrets(folder: Path, environment: Mapping[str, str] = os.environ) -> list[str]:
    """What is there stays; what is missing is made. Returns the names of those that were made or changed."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    changed = [name for name in GENERATED if _make(folder / name, secrets.token_hex(24))]
    changed += [GATEWAY_TOKEN] if _make(folder / GATEWAY_TOKEN, secrets.token_urlsafe(32)) else []
    url = f"redis://agent:{(folder / 'redis').read_text().strip()}@redis:6379/0"
    changed += [LIVE_URL] if _put(folder / LIVE_URL, url) else []
    for name in OPTIONAL:
        if environment.get(name):
            changed += [name] if _put(folder / name, environment[name]) else []
        else:
            _make(folder / name, "")
    _put(folder / CLIENT_TOKEN, (folder / GATEWAY_TOKEN).read_text().strip(), mode=0o600)
    return changed


def _make(path: Path, text: str) -> bool:
    if path.exists():
        path.chmod(0o444)
        return False
    return _put(path, text)


def _put(path: Path, text: str, *, mode: int = 0o444) -> bool:
    if path.exists() and path.read_text().strip() == text:
        path.chmod(mode)
        return False
    made = path.with_name(f".{path.name}.new")
    made.unlink(missing_ok=True)
    with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n" if text else "")
    made.chmod(mode)
    made.replace(path)
    return True

"""Make the secret files that an overlay of k8s/ names and does not have: `scripts/k8s_secrets.py k8s/overlays/kind`.

Files (0600) lie in `secrets/` beside the kustomization that names them, which git ignores. What is there stays. What
only you can know (a Temporal Cloud key, Slack's tokens) is said and left to you: exit code 1 until it is there.
Standard library only.
"""

import hashlib
import os
import re
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

NAMED = re.compile(r"\bsecrets/([\w.-]+)")
PASSWORD = re.compile(r"^AGENT_SESSION_LIVE__URL=redis://agent:([^@]+)@", re.MULTILINE)
#: what agent-session needs of Redis (docs/live.md)
RIGHTS = (
    "resetchannels &agent-session:live:* resetkeys ~agent-session:live:* -@all +ping +select +script|load +evalsha "
    "+eval +xadd +xlen +xrange +xrevrange +xtrim +pexpire +publish +subscribe +unsubscribe"
)
YOURS = {
    "temporal-api-key": "an API key of Temporal Cloud for this namespace",
    "slack.env": "AGENT_SESSION_SLACK__BOT_TOKEN=xoxb-… and AGENT_SESSION_SLACK__APP_TOKEN=xapp-…, a line each",
}


class Cannot(Exception):
    """What is in the way, and what to do."""


def signing_key(folder: Path) -> str:
    return secrets.token_hex(32)


def tokens(folder: Path) -> str:
    """One with every right, yours; and one for the nightly probe's own sessions."""
    if not (folder / "probe-token").exists():
        make(folder, "probe-token")
    probe = hashlib.sha256((folder / "probe-token").read_bytes().strip()).hexdigest()
    owner = f'[tokens.owner]\ntoken = "{secrets.token_urlsafe(32)}"\nscopes = ["admin"]\nprefixes = [""]\n'
    return owner + f'\n[tokens.probe]\nsha256 = "{probe}"\nscopes = ["read", "send"]\nprefixes = ["probe"]\n'


def live_bus(folder: Path) -> str:
    if (folder / "users.acl").exists():
        raise Cannot(f"{folder / 'users.acl'} knows only a digest of the password: remove it, and both are made anew")
    return f"AGENT_SESSION_LIVE__URL=redis://agent:{secrets.token_urlsafe(24)}@redis:6379/0\n"


def users(folder: Path) -> str:
    if not (folder / "live-bus.env").exists():
        make(folder, "live-bus.env")
    found = PASSWORD.search((folder / "live-bus.env").read_text())
    if not found:
        raise Cannot(f"{folder / 'live-bus.env'} has no AGENT_SESSION_LIVE__URL=redis://agent:PASSWORD@…")
    digest = hashlib.sha256(found[1].encode()).hexdigest()
    return f"user default off resetpass -@all\nuser agent on #{digest} {RIGHTS}\n"


def model_keys(folder: Path) -> str:
    names = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")
    given = [f"{name}={os.environ[name]}\n" for name in names if os.environ.get(name)]
    return "".join(given) or "# ANTHROPIC_API_KEY=… or another provider's; none: the offline model\n"


def password(folder: Path) -> str:
    return secrets.token_urlsafe(24)


MAKERS: dict[str, Callable[[Path], str]] = {
    "mac.key": signing_key,
    "tokens.toml": tokens,
    "live-bus.env": live_bus,
    "users.acl": users,
    "model-keys.env": model_keys,
    "postgres-password": password,
    "probe-token": password,
}


def make(folder: Path, name: str) -> None:
    text = MAKERS[name](folder)
    with open(os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)


def make_all(overlay: Path) -> tuple[list[Path], list[Path]]:
    """What was made, and what is missing and yours to write. Errors: Cannot."""
    made, yours = list[Path](), list[Path]()
    found = sorted(overlay.rglob("kustomization.yaml"))
    if not found:
        raise Cannot(f"{overlay} holds no kustomization.yaml: name an overlay, such as k8s/overlays/kind")
    for kustomization in found:
        folder = kustomization.parent / "secrets"
        for name in dict.fromkeys(NAMED.findall(kustomization.read_text())):
            if (folder / name).exists():
                continue
            folder.mkdir(mode=0o700, exist_ok=True)
            if name in MAKERS:
                make(folder, name)
                made.append(folder / name)
            else:
                yours.append(folder / name)
    return made, yours


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: k8s_secrets.py OVERLAY, such as k8s/overlays/kind", file=sys.stderr)
        return 2
    try:
        made, yours = make_all(Path(arguments[0]))
    except (Cannot, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path in made:
        print(f"made {path}")
    for path in yours:
        print(f"yours to write: {path} ({YOURS.get(path.name, 'named by the kustomization')})", file=sys.stderr)
    return 1 if yours else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

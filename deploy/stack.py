"""The stack of compose.yaml: `python -m deploy.stack up | smoke | down`.

`up` makes the secrets, builds the image, starts everything and waits until it can be used; `smoke` asks something
through the gateway and checks the answer; `down` stops it (`--volumes` forgets its data, too). PROFILES names profiles
(slack, observability), GATEWAY_PORT the port on 127.0.0.1, ENGINE the engine.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from deploy.engine import ROOT, Engine, EngineFailed, NoEngine, find_engine
from deploy.image import DEFAULT_TAG, build
from deploy.secret_files import CLIENT_TOKEN, make_secrets

SECRETS = ROOT / ".secrets"
READY_S, ASK_S = 300.0, 60.0
NO_COMPOSE = "compose is missing: install Docker's compose plug-in, or podman-compose (pip install podman-compose)"


class StackFailed(Exception):
    """A step that did not hold; the message says which and what to do."""


def gateway_url(environment: Mapping[str, str] = os.environ) -> str:
    return f"http://127.0.0.1:{environment.get('GATEWAY_PORT') or 18790}"


def compose_command(engine: Engine) -> list[str]:
    """Errors: NoEngine."""
    if engine.name == "docker" and engine.try_to("compose", "version").returncode == 0:
        return ["docker", "compose"]
    beside = shutil.which("podman-compose", path=os.path.dirname(sys.executable)) or shutil.which("podman-compose")
    if engine.name == "podman" and beside:
        return [beside]
    raise NoEngine(NO_COMPOSE)


def compose(engine: Engine, *arguments: str) -> None:
    """Errors: StackFailed."""
    command = [*compose_command(engine)]
    for name in os.environ.get("COMPOSE_FILES", "compose.yaml").split():
        command += ["-f", str(ROOT / name)]
    for profile in os.environ.get("PROFILES", "").replace(",", " ").split():
        command += ["--profile", profile]
    if name := os.environ.get("COMPOSE_PROJECT_NAME"):
        command += ["-p", name]  # podman-compose would take the file's own name first
    environment = {**engine.environment, "IMAGE": os.environ.get("IMAGE") or DEFAULT_TAG}
    if "observability" in os.environ.get("PROFILES", ""):
        environment.setdefault("OTLP_ENDPOINT", "http://collector:4318")
    done = subprocess.run([*command, *arguments], cwd=ROOT, env=environment, check=False)
    if done.returncode != 0:
        raise StackFailed(f"{' '.join([*command, *arguments])}: exit code {done.returncode}")


def up() -> None:
    engine = find_engine()
    compose_command(engine)
    for name in make_secrets(SECRETS):
        print(f"made .secrets/{name}")
    if not os.environ.get("IMAGE"):
        build(engine)
    compose(engine, "up", "--detach", "--no-build")
    until(ready, READY_S, "the gateway is not ready")
    print(f"ready on {gateway_url()}; talk to it:\n"
          f"  agent-session --url {gateway_url()} --token-file .secrets/{CLIENT_TOKEN} chat")  # fmt: skip


def smoke() -> None:
    """Two turns through the gateway; the second knows the first. Says when there is nothing to ask."""
    if not (SECRETS / CLIENT_TOKEN).exists() or not _answers():
        engine = find_engine()
        raise StackFailed(
            f"{engine.name} is there, but nothing answers on {gateway_url()}: run 'make compose-up' first"
        )
    until(ready, READY_S, "the gateway is not ready")
    word, key = secrets.token_hex(6), f"smoke-{secrets.token_hex(4)}"
    first = ask(key, f"remember {word}")
    second = ask(key, "what did I say?")
    if word not in second["text"]:
        raise StackFailed(f"the second turn does not know the first: {second['text'][:300]!r}")
    print(f"{gateway_url()}: two turns in session {key}, {first['took_s']:.2f} s and {second['took_s']:.2f} s: ok")


def down() -> None:
    engine = find_engine()
    make_secrets(SECRETS)  # compose reads the file whole, secrets too
    compose(engine, "down", *(["--volumes"] if "--volumes" in sys.argv else []))


def ask(key: str, text: str) -> dict[str, Any]:
    """One message and its answer. Errors: StackFailed."""
    began = time.monotonic()
    url = f"{gateway_url()}/v1/sessions/{key}/messages?wait={ASK_S:.0f}"
    headers = {"Authorization": f"Bearer {(SECRETS / CLIENT_TOKEN).read_text().strip()}"}
    request = urllib.request.Request(
        url, json.dumps({"text": text}).encode(), {**headers, "Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=ASK_S + 10) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        raise StackFailed(f"{url}: {error.code} {error.read()[:500].decode('utf-8', 'replace')}") from None
    except (OSError, ValueError) as error:
        raise StackFailed(f"{url}: {error}") from None
    if found.get("status") != "answered":
        raise StackFailed(f"{url}: not answered within {ASK_S:.0f} s: {found}")
    return {**found, "took_s": time.monotonic() - began}


def ready() -> str:
    """Empty when messages can be taken and answered; else what is missing."""
    try:
        with urllib.request.urlopen(f"{gateway_url()}/readyz", timeout=10) as answer:
            return "" if answer.status == 200 else str(answer.status)
    except urllib.error.HTTPError as error:
        return error.read()[:300].decode("utf-8", "replace")
    except OSError as error:
        return str(error)


def _answers() -> bool:
    try:
        urllib.request.urlopen(f"{gateway_url()}/healthz", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def until(missing: Callable[[], str], within_s: float, otherwise: str) -> None:
    """Errors: StackFailed, with what was missing last."""
    deadline = time.monotonic() + within_s
    while last := missing():
        if time.monotonic() > deadline:
            raise StackFailed(f"{otherwise} after {within_s:.0f} s: {last}")
        time.sleep(0.5)


COMMANDS = {"up": up, "smoke": smoke, "down": down}


def main() -> int:
    command = COMMANDS.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if command is None:
        print(f"usage: python -m deploy.stack {'|'.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        command()
    except (NoEngine, EngineFailed, StackFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

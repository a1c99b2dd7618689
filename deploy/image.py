"""Builds the container image with the engine that is there, and prints its size.

    python -m deploy.image [TAG]        BASE, EXTRAS, PACKAGES, ENGINE, BUILD_FLAGS in the environment

Where the registry of the default base cannot be reached and podman, root and debootstrap are there, a Debian base is
made from packages instead (40 s, once). Behind a proxy with a certificate of its own, SSL_CERT_FILE is used for the
build and stays out of the image.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path

from deploy.engine import ROOT, Engine, EngineFailed, NoEngine, find_engine

DEFAULT_TAG = "localhost/agent-session:dev"
PUBLIC_BASE = "docker.io/library/python:3.12-slim"
OWN_BASE = "localhost/base:bookworm"
SUITE = "bookworm"
BASE_PACKAGES = "python3,ca-certificates"
PULL_S, BUILD_S, BASE_S = 120.0, 1200.0, 600.0
PASSED_ON = ("EXTRAS", "PACKAGES", "PIP_INDEX_URL", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
UNUSED = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")


def build(engine: Engine, tag: str = DEFAULT_TAG, environment: Mapping[str, str] = os.environ) -> str:
    """Build and tag the image; cached steps are not done again. Returns the tag. Errors: EngineFailed."""
    base = base_image(engine, environment)
    arguments = ["build", "--file", str(ROOT / "Containerfile"), "--tag", tag, "--network", "host"]
    arguments += ["--build-arg", f"BASE={base}", "--build-arg", f"VERSION={version()}"]
    arguments += ["--build-arg", f"REVISION={revision()}"]
    if engine.name == "podman":
        arguments += ["--format", "docker"]  # the other format has no health check
    for name in PASSED_ON:
        if environment.get(name):
            arguments += ["--build-arg", f"{name}={environment[name]}"]
    certificate = environment.get("SSL_CERT_FILE", "")
    if certificate and Path(certificate).is_file():
        arguments += ["--secret", f"id=ca,src={certificate}"]
    engine(*arguments, *shlex.split(environment.get("BUILD_FLAGS", "")), str(ROOT), timeout_s=BUILD_S)
    return tag


def base_image(engine: Engine, environment: Mapping[str, str] = os.environ) -> str:
    """BASE; else the public one; else one made from Debian's packages. Errors: EngineFailed."""
    if given := environment.get("BASE", ""):
        return given
    if engine.has_image(PUBLIC_BASE):
        return PUBLIC_BASE
    if engine.has_image(OWN_BASE):
        return OWN_BASE
    try:
        engine("pull", PUBLIC_BASE, timeout_s=PULL_S)
        return PUBLIC_BASE
    except EngineFailed as error:
        if engine.name != "podman" or shutil.which("debootstrap") is None or os.geteuid() != 0:
            raise EngineFailed(
                f"{error}\n  {PUBLIC_BASE} cannot be had: name another base in BASE, or, with podman and as root, "
                "install debootstrap to make one from Debian's packages"
            ) from None
    print(f"{PUBLIC_BASE} cannot be had; making {OWN_BASE} from Debian's packages …", file=sys.stderr)
    return make_base(engine)


def make_base(engine: Engine) -> str:
    """A minimal Debian with Python, from packages. Errors: EngineFailed."""
    with tempfile.TemporaryDirectory(prefix="agent-session-base-") as scratch:
        folder, archive = Path(scratch) / "root", Path(scratch) / "root.tar"
        command = ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", SUITE, str(folder)]
        made = subprocess.run(command, capture_output=True, text=True, timeout=BASE_S, check=False)
        if made.returncode != 0:
            raise EngineFailed(f"{' '.join(command)}: {(made.stderr or made.stdout).strip()[-1000:]}")
        for name in UNUSED:
            for path in (folder / name).iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        subprocess.run(["tar", "--numeric-owner", "-C", str(folder), "-cf", str(archive), "."], check=True)
        engine("import", str(archive), OWN_BASE, timeout_s=BASE_S)
    return OWN_BASE


def version() -> str:
    """As the package has it, without importing it."""
    path = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["version"]["path"]
    line = next(line for line in (ROOT / path).read_text().splitlines() if line.startswith("__version__"))
    return line.split('"')[1]


def revision() -> str:
    """The commit, with `-changed` when the tree differs from it; `unknown` outside a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=-changed"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def main() -> int:
    tag = sys.argv[1] if len(sys.argv) > 1 else DEFAULT_TAG
    began = time.monotonic()
    try:
        engine = find_engine()
        build(engine, tag)
        size = engine.size_of(tag)
    except (NoEngine, EngineFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{tag}: {size / 1e6:.0f} MB, {time.monotonic() - began:.0f} s with {engine.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

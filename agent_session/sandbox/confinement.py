"""What confines a shell command on this machine, found out once by trying it (I9).

Fail closed: what does not work here is not silently left out; the command asks a person, or is refused.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agent_session.sandbox.bubblewrap import NETWORK_HELPER, probe_command, program
from agent_session.settings import ShellSettings

LAUNCHER = Path(__file__).parent.parent / "ops" / "launcher.py"
PROBE_S = 10.0
PROBE_LIMITS = "processes=64,memory=1073741824,file=1048576,reserve=0"


@dataclass(frozen=True)
class Confinement:
    """How commands run. An approval is bound to `label`: a worker that confines less asks again."""

    sandbox: str  #: bubblewrap or none
    network: str  #: none, own (the internet only) or host
    asks: str = ""  #: why each command needs a person; empty when it does not
    refused: str = ""  #: why commands cannot run at all; empty when they can

    @property
    def label(self) -> str:
        return f"{self.sandbox}, network: {self.network}"

    @property
    def words(self) -> str:
        """For `status` and start-up."""
        if self.refused:
            return f"off: {self.refused}"
        return f"{self.label}; asks before each command: {self.asks}" if self.asks else self.label


def confinement_of(settings: ShellSettings) -> Confinement:
    """What these settings mean here. The first call tries it, about 20 ms; 60 with a network."""
    return _confinement(settings.sandbox, settings.network)


@cache
def _confinement(sandbox: str, network: bool) -> Confinement:
    if sandbox == "none":
        return Confinement("none", "host")
    problem = why_no_sandbox()
    if problem and sandbox == "bubblewrap":
        return Confinement("none", "host", refused=f"tools.shell.sandbox is bubblewrap, but {problem}")
    if problem:
        return Confinement("none", "host", asks=f"it runs unconfined, as you, because {problem}")
    if not network:
        return Confinement("bubblewrap", "none")
    problem = why_no_network()
    if problem:
        return Confinement("bubblewrap", "host", asks=f"it shares this host's network, loopback too, because {problem}")
    return Confinement("bubblewrap", "own")


@cache
def why_no_sandbox() -> str:
    """Empty when bubblewrap works here."""
    if not sys.platform.startswith("linux"):
        return f"there is no bubblewrap on {sys.platform}"
    if not os.path.isabs(program("bwrap")):
        return "bubblewrap is not installed (apt install bubblewrap, dnf install bubblewrap)"
    return _failure_of(probe_command(network="none"), "bubblewrap does not work here")


@cache
def why_no_network() -> str:
    """Empty when a command can have a network of its own here."""
    if not os.path.isabs(program(NETWORK_HELPER)):
        return f"{NETWORK_HELPER} is not installed (apt install {NETWORK_HELPER}, dnf install {NETWORK_HELPER})"
    return _failure_of(probe_command(network="own"), f"{NETWORK_HELPER} does not work here")


def _failure_of(command: list[str], what: str) -> str:
    """Started as commands are: by the launcher, with its limits and its filter."""
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory() as scratch:
        folder = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
        whole = [sys.executable, "-I", "-S", str(LAUNCHER), str(reading), str(folder), PROBE_LIMITS, *command]
        try:
            done = subprocess.run(
                whole, capture_output=True, timeout=PROBE_S, stdin=subprocess.DEVNULL, pass_fds=(reading, folder),
                check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{what}: {type(error).__name__}"
        finally:
            for handle in (reading, writing, folder):
                os.close(handle)
    last = (done.stderr + done.stdout).decode("utf-8", "replace").strip().splitlines()[-1:]
    return "" if done.returncode == 0 else f"{what}: {(last or [f'exit code {done.returncode}'])[0][:200]}"

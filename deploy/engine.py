"""The container engine of this machine: podman, else Docker. Standard library only; starts nothing by itself."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
PODMAN_CONFIG = ROOT / "deploy" / "container" / "containers.conf"
COMMAND_S = 120.0
HOW_TO_GET_ONE = (
    "no container engine answers: install podman (apt install podman) or Docker and start it, then try again; "
    "ENGINE=podman or ENGINE=docker chooses one"
)


class NoEngine(Exception):
    """There is no podman or Docker that answers; the message says what to do."""


class EngineFailed(Exception):
    """A command of the engine failed; the message has the command and the end of what it said."""


@dataclass(frozen=True)
class Engine:
    """Runs its commands: `engine("ps", "--all")` is `podman ps --all`."""

    name: str
    environment: Mapping[str, str] = field(repr=False)

    def __call__(self, *arguments: str, timeout_s: float = COMMAND_S, said: bool = False) -> str:
        """What it printed. `said`: the engine's own words go to standard error as they come. Errors: EngineFailed."""
        done = self.try_to(*arguments, timeout_s=timeout_s, said=said)
        if done.returncode != 0:
            tail = (done.stderr or done.stdout or "").strip()[-2000:]
            raise EngineFailed(f"{self.name} {' '.join(arguments)[:300]}: exit code {done.returncode}\n{tail}")
        return done.stdout.strip()

    def try_to(
        self, *arguments: str, timeout_s: float = COMMAND_S, said: bool = False
    ) -> "subprocess.CompletedProcess[str]":
        """As a call, but a failure is an answer, too. Errors: EngineFailed, when it takes longer than `timeout_s`."""
        try:
            return subprocess.run(
                [self.name, *arguments],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=None if said else subprocess.PIPE,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise EngineFailed(f"{self.name} {' '.join(arguments)[:300]}: nothing after {timeout_s:.0f} s") from None

    def has_image(self, name: str) -> bool:
        return self.try_to("image", "inspect", name).returncode == 0

    def size_of(self, image: str) -> int:
        """Bytes, unpacked."""
        return int(self("image", "inspect", "--format", "{{.Size}}", image))


def find_engine(environment: Mapping[str, str] = os.environ) -> Engine:
    """The one that ENGINE names, else podman, else Docker; it must answer. Errors: NoEngine."""
    wanted = environment.get("ENGINE", "")
    names: Sequence[str] = (wanted,) if wanted else ("podman", "docker")
    for name in names:
        if shutil.which(name, path=environment.get("PATH")) is None:
            continue
        engine = Engine(name, _environment(name, environment))
        try:
            if engine.try_to("info", timeout_s=30).returncode == 0:
                return engine
        except (EngineFailed, OSError):
            continue
    raise NoEngine(f"ENGINE={wanted}: {HOW_TO_GET_ONE}" if wanted else HOW_TO_GET_ONE)


def _environment(name: str, given: Mapping[str, str]) -> dict[str, str]:
    """Podman as root on a machine without systemd can neither ask it for a cgroup nor raise limits."""
    ours = dict(given)
    bare = os.geteuid() == 0 and not Path("/run/systemd/system").exists()
    if name == "podman" and bare and "CONTAINERS_CONF" not in ours:
        ours["CONTAINERS_CONF"] = str(PODMAN_CONFIG)
    return ours

"""What the image is, and what it is not."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agent_session import __version__
from deploy.engine import ROOT, Engine, EngineFailed, NoEngine, find_engine
from deploy.image import OWN_BASE, base_image
from tests.containers.world import HARDENED

LARGEST = 250_000_000
NOT_IN_IT = (
    "gcc",
    "cc",
    "c++",
    "ld",
    "make",
    "pip",
    "pip3",
    "apt-get",
    "perl",
    "temporal",
    "git",
    "curl",
    "wget",
    "sudo",
    "ssh",
)


def run(engine: Engine, image: str, *arguments: str, options: tuple[str, ...] = (), entry: str = "") -> str:
    """A command in a container of the image that may do nothing; what it printed, standard error too."""
    chosen = ("--entrypoint", entry) if entry else ()
    done = engine.try_to("run", "--rm", "--no-healthcheck", *HARDENED, *options, *chosen, image, *arguments)
    return f"{done.returncode} {done.stdout}{done.stderr}"


def shell(engine: Engine, image: str, command: str, *options: str) -> str:
    return run(engine, image, "-c", command, options=options, entry="/bin/sh")


def test_it_is_smaller_than_250_megabytes(engine: Engine, image: str) -> None:
    size = engine.size_of(image)
    print(f"\n{image}: {size / 1e6:.0f} MB")
    assert size < LARGEST


def test_it_runs_as_a_user_of_its_own_on_a_root_that_cannot_be_written(engine: Engine, image: str) -> None:
    assert shell(engine, image, "id -u; id -g") == "0 10001\n10001\n"
    for place in ("/opt/agent-session", "/usr/local/bin", "/etc", "/run", "/var", "/home"):
        assert shell(engine, image, f"touch {place}/x 2>/dev/null; echo $?") != "0 0\n", place
    assert shell(engine, image, "touch /tmp/x && echo ok") == "0 ok\n"


def test_it_holds_no_compiler_no_installer_and_nothing_set_user_id(engine: Engine, image: str) -> None:
    found = shell(engine, image, f"for one in {' '.join(NOT_IN_IT)}; do command -v $one; done; true")
    assert found == "0 "
    imports = "import importlib.util as u; print([n for n in ('pip', 'ensurepip', 'setuptools') if u.find_spec(n)])"
    for python in ("/opt/agent-session/bin/python", "python3"):
        assert run(engine, image, "-c", imports, entry=python) == "0 []\n"
    assert shell(engine, image, "find / -xdev -type f -perm /6000 2>/dev/null; true") == "0 "


def test_it_holds_what_its_roles_need(engine: Engine, image: str) -> None:
    found = shell(engine, image, "for one in tini bwrap rg agent-session healthy; do command -v $one; done")
    assert len(found.split()[1:]) == 5, found
    extras = "import redis.asyncio, slack_sdk, opentelemetry.sdk, temporalio.contrib.opentelemetry, anthropic, openai"
    assert run(engine, image, "-c", extras, entry="/opt/agent-session/bin/python") == "0 "


def test_it_says_what_it_is(engine: Engine, image: str) -> None:
    assert run(engine, image, "--version") == f"0 agent-session {__version__}\n"
    assert "worker" in run(engine, image)
    labels = engine("image", "inspect", "--format", "{{json .Config.Labels}}", image)
    for name in ("title", "description", "licenses", "version", "revision", "base.name"):
        assert re.search(rf'"org\.opencontainers\.image\.{name}":"[^"]+"', labels), name
    assert f'"org.opencontainers.image.version":"{__version__}"' in labels


def test_nothing_of_the_machine_that_built_it_is_in_it(engine: Engine, image: str) -> None:
    where = "/opt /etc /usr/local /root /tmp"
    assert shell(engine, image, f"grep -rlI -e '{ROOT}' {where} 2>/dev/null | grep -v __pycache__; true") == "0 "
    history = engine("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)
    assert "BEGIN CERTIFICATE" not in history
    assert shell(engine, image, "ls -A /root /run/secrets 2>/dev/null; true").strip() in ("0", "0 /root:"), (
        "left behind"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("worker", "--no-such-option"), "No such option"),  # without an address it tries for a minute, then says so
        (("gateway",), "volume is not mounted"),
        (("slack",), "not configured"),
        (("up",), "agent-session init"),
        (("demo",), "temporal"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_role_without_its_settings_says_what_is_missing(
    engine: Engine, image: str, arguments: tuple[str, ...], says: str
) -> None:
    told = run(engine, image, *arguments)
    assert not told.startswith("0 "), told
    assert says in told
    assert "Traceback" not in told


def test_a_secret_is_a_file_whose_name_is_a_variable(engine: Engine, image: str, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name, text in {"AGENT_SESSION_LOG__LEVEL": "debug", "OPENAI_API_KEY": "", "notes": "x"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o444)
    folder.chmod(0o755)
    options = ("--volume", f"{folder}:/run/secrets:ro")
    shown = run(engine, image, "config", "show", "log.level", "--json", options=options)
    assert '"debug"' in shown
    assert "AGENT_SESSION_LOG__LEVEL" in shown
    given = (*options, "--env", "AGENT_SESSION_LOG__LEVEL=error")
    assert '"error"' in run(engine, image, "config", "show", "log.level", "--json", options=given)
    (folder / "AGENT_SESSION_LOG__LEVEL").chmod(0o400)
    assert "cannot be read by uid 10001" in run(engine, image, "--version", options=options)


def test_without_an_engine_it_is_said_what_to_install() -> None:
    with pytest.raises(NoEngine, match="install podman"):
        find_engine({"PATH": "/nowhere"})
    for module in ("deploy.image", "deploy.stack"):
        done = subprocess.run(
            [sys.executable, "-m", module, *(["up"] if module == "deploy.stack" else [])],
            cwd=ROOT, env={**os.environ, "ENGINE": "no-such-engine"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (1, "")
        assert "error: ENGINE=no-such-engine: no container engine answers" in done.stderr


def test_a_base_that_cannot_be_had_is_named() -> None:
    class Nowhere(Engine):
        def has_image(self, name: str) -> bool:
            return False

        def __call__(self, *arguments: str, timeout_s: float = 0, said: bool = False) -> str:
            raise EngineFailed("pull: no route to host")

    assert base_image(Nowhere("docker", {}), {"BASE": OWN_BASE}) == OWN_BASE
    with pytest.raises(EngineFailed, match="name another base in BASE"):
        base_image(Nowhere("docker", {}), {})

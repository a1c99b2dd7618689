"""The command line that puts a command into an empty world: /usr read-only, a home and /tmp that vanish,
and the workspace (I11). Pure: starts nothing.

Never there: the data directory, the home of whoever runs the worker, /run, the host's network.
"""

import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
NETWORK_HELPER = "slirp4netns"
WORKSPACE, HOME = "/workspace", "/home/agent"
UID = "1000"
SECCOMP_FD = "3"

#: of /etc, what programs need to start, to find certificates and to tell the time; nothing with secrets
ETC = (
    "alternatives", "ca-certificates", "ca-certificates.conf", "fonts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "localtime", "magic", "mime.types", "pki", "protocols", "python3", "services", "ssl/certs", "ssl/openssl.cnf",
    "terminfo", "timezone",
)  # fmt: skip
OWN_ETC = ("passwd", "group", "hosts", "nsswitch.conf")
ENVIRONMENT = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")  #: all that a command sees of the worker's
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


def sandboxed(
    command: list[str],
    workspace: Path | None,
    *,
    network: str,
    tmp_bytes: int,
    read_only: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> list[str]:
    """`command` in the sandbox. `read_only` names files of the workspace's top that exist and may not be
    written. `network`: none, own, or host."""
    size = str(tmp_bytes)
    argv = [program("bwrap"), "--unshare-all", "--unshare-user", "--disable-userns", "--uid", UID, "--gid", UID]
    argv += ["--new-session", "--die-with-parent", "--hostname", "sandbox", "--cap-drop", "ALL"]
    argv += ["--seccomp", SECCOMP_FD]  # the launcher's filter
    if network != "none":
        argv.append("--share-net")  # of the namespace that the network helper made, or of the host
    argv += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        argv += _top_folder(name)
    for name in ETC:
        argv += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for name in OWN_ETC:
        argv += ["--ro-bind", str(HERE / "etc" / name), f"/etc/{name}"]
    if network != "none":
        resolver = HERE / "etc" / "resolv.conf" if network == "own" else Path("/etc/resolv.conf")
        argv += ["--ro-bind-try", str(resolver), "/etc/resolv.conf"]
    argv += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"]  # root on the host may write sysctls by its id
    argv += ["--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp", "/home"):
        argv += ["--size", size, "--tmpfs", folder]
    argv += ["--dir", HOME]
    if workspace is not None:
        argv += ["--bind", str(workspace), WORKSPACE]
        for name in read_only:
            argv += ["--ro-bind", str(workspace / name), f"{WORKSPACE}/{name}"]
    argv += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORKSPACE if workspace else "/"]
    for name, value in _environment(environment or {}).items():
        argv += ["--setenv", name, value]
    return [*_with_network(network), *argv, "--", *command]


def probe_command(*, network: str) -> list[str]:
    """A command that succeeds where this kind of sandbox works; to be started by the launcher."""
    return sandboxed(["/bin/true"], None, network=network, tmp_bytes=1024 * 1024)


def program(name: str) -> str:
    """Its whole path: a relative entry of PATH would mean the workspace. The bare name when there is none."""
    folders = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if os.path.isabs(folder)]
    return shutil.which(name, path=os.pathsep.join(folders) or PATH) or name


def _top_folder(name: str) -> list[str]:
    """/bin and the like: links into /usr on most systems, folders of their own on others."""
    path = Path("/") / name
    if path.is_symlink():
        return ["--symlink", str(path.readlink()), str(path)]
    return ["--ro-bind-try", str(path), str(path)]


def _environment(ours: dict[str, str]) -> dict[str, str]:
    kept = {name: ours[name] for name in ENVIRONMENT if name in ours}
    return {"PATH": PATH, "TERM": "dumb", **kept, "HOME": HOME, "TMPDIR": "/tmp", "USER": "agent"}


def _with_network(network: str) -> list[str]:
    if network != "own":
        return []
    return [sys.executable, "-I", "-S", str(HERE / "network.py"), program(NETWORK_HELPER)]

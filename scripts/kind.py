"""A cluster on this machine with kind: `kind.py up`, `kind.py down` (make kind-up, make kind-down).

Needs kind, Docker or podman, and kubectl; says which is missing. Standard library only.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CLUSTER, CONTEXT, IMAGE = "agent-session", "kind-agent-session", "localhost/agent-session:kind"
WHERE = {
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "docker or podman": "https://docs.docker.com/engine/install/ or https://podman.io/docs/installation",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/, or scripts/kubectl.py",
}


class Cannot(Exception):
    """What is in the way, and what to do."""


def tools() -> tuple[str, str, str]:
    """kind, the container engine, kubectl. Errors: Cannot, naming every one that is missing."""
    cached = ROOT / ".cache" / "kubectl"
    engines = [path for name in ("docker", "podman") if (path := shutil.which(name))]
    found = {
        "kind": shutil.which("kind"),
        "docker or podman": next(iter(engines), None),
        "kubectl": shutil.which("kubectl") or (str(cached) if cached.exists() else None),
    }
    if missing := [name for name, path in found.items() if path is None]:
        raise Cannot("not on this machine:\n" + "\n".join(f"  {name}: {WHERE[name]}" for name in missing))
    kind, _, kubectl = (path for path in found.values() if path is not None)
    engine = next((one for one in engines if subprocess.run([one, "info"], capture_output=True).returncode == 0), None)
    if engine is None:
        raise Cannot(f"'{engines[0]} info' fails: its daemon does not run, or you may not use it")
    if Path(engine).name == "podman":
        os.environ["KIND_EXPERIMENTAL_PROVIDER"] = "podman"
    os.environ["ENGINE"] = Path(engine).name  # of deploy.image
    return kind, engine, kubectl


def run(*command: str | Path) -> None:
    print("+", *command, flush=True)
    if subprocess.run([str(part) for part in command], cwd=ROOT).returncode != 0:
        raise Cannot(f"this failed: {' '.join(map(str, command))}")


def up() -> None:
    kind, engine, kubectl = tools()
    run(sys.executable, "-m", "deploy.image", IMAGE)
    is_new = CLUSTER not in subprocess.check_output([kind, "get", "clusters"], text=True).split()
    if is_new:
        run(kind, "create", "cluster", "--config", "k8s/kind/cluster.yaml", "--wait", "120s")
    archive = ROOT / ".cache" / "kind-image.tar"
    archive.parent.mkdir(exist_ok=True)
    archive.unlink(missing_ok=True)
    run(engine, "save", "-o", archive, IMAGE)
    run(kind, "load", "image-archive", archive, "--name", CLUSTER)
    archive.unlink()
    run(sys.executable, "scripts/k8s_secrets.py", "k8s/overlays/kind")
    here = [kubectl, "--context", CONTEXT]
    run(*here, "apply", "-k", "k8s/overlays/kind")
    if not is_new:  # the image's tag is the same, so nothing else would take the new one
        run(*here, "-n", "agent-session", "rollout", "restart", "deployment/worker", "deployment/gateway")
    run(*here, "-n", "storage", "rollout", "status", "statefulset/nfs", "--timeout=300s")
    run(*here, "-n", "temporal", "wait", "--for=condition=complete", "job/register", "--timeout=600s")
    run(*here, "-n", "agent-session", "wait", "--for=condition=complete", "job/init", "--timeout=300s")
    for name in ("redis", "worker", "gateway"):
        run(*here, "-n", "agent-session", "rollout", "status", f"deployment/{name}", "--timeout=300s")
    print(
        "\nready. Next: make kind-demo\n"
        f"the page:      kubectl --context {CONTEXT} -n agent-session port-forward service/gateway 18790\n"
        f"Temporal's UI: kubectl --context {CONTEXT} -n temporal port-forward service/ui 8233:8080\n"
        "the token:     k8s/overlays/kind/agent/secrets/tokens.toml"
    )


def down() -> None:
    kind, _, _ = tools()
    run(kind, "delete", "cluster", "--name", CLUSTER)


def main(arguments: list[str]) -> int:
    commands = {"up": up, "down": down}
    if len(arguments) != 1 or arguments[0] not in commands:
        print("usage: kind.py up|down", file=sys.stderr)
        return 2
    try:
        commands[arguments[0]]()
    except (Cannot, OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

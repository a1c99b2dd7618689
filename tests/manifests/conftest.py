"""Each overlay is rendered once a test process."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.manifests.rendering import Docs, copy_with_secrets, render


@pytest.fixture(scope="session")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of k8s/ with secret files."""
    return copy_with_secrets(tmp_path_factory.mktemp("manifests"))


@pytest.fixture(scope="session")
def rendered(manifests: Path) -> Callable[[str], Docs]:
    """The documents of an overlay; who changes them copies them first."""
    return cache(lambda name: render(manifests / "overlays" / name))

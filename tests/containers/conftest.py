"""Fixtures: the engine, the image built once, a world of its own for each test."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.engine import Engine, NoEngine, find_engine
from deploy.image import build
from tests.containers.bounce import TAG
from tests.containers.world import World, world_of

REQUIRED = "AGENT_TESTS_REQUIRE_ALL" in os.environ


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Podman or Docker, or a skip where there is none; CI sets AGENT_TESTS_REQUIRE_ALL."""
    try:
        return find_engine()
    except NoEngine as error:
        if REQUIRED:
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The tag of the image of this tree; IMAGE names one that is there already."""
    return os.environ.get("IMAGE") or build(engine, TAG)


@pytest.fixture
async def world(engine: Engine, image: str, temporal_address: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(engine, image, temporal_address, tmp_path) as made:
        yield made

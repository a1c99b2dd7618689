"""A service whose file writes ask, a gateway in front of it, and shells on both sides."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.support import Door, door
from tests.remote.support import Shell, at_the_service, elsewhere
from tests.support import Service


@pytest.fixture
async def asking(make_service: Callable[..., Any]) -> AsyncIterator[Service]:
    """A service whose file writes ask a person."""
    made: Service = await make_service(tools={"ask": ["write_file"]})
    async with made.worker() as services:
        made.services = services
        yield made


@pytest.fixture
async def opened(asking: Service) -> AsyncIterator[Door]:
    async with door(asking) as one:
        yield one


@pytest.fixture
def here(asking: Service) -> Shell:
    return at_the_service(asking)


@pytest.fixture
def there(opened: Door, tmp_path: Path) -> Shell:
    return elsewhere(tmp_path, opened.url, opened.token)

"""A real gateway in front of a real service: a port of its own, spoken to over HTTP."""

from collections.abc import AsyncIterator

import pytest

from tests.gateway.support import Door, door
from tests.support import Service


@pytest.fixture
async def gateway(service: Service) -> AsyncIterator[Door]:
    """Of a service with one worker and the offline model; one token with every right."""
    async with door(service) as opened:
        yield opened

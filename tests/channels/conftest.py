"""A fake Slack for every test that wants one, and a volume whose processes post to it."""

from collections.abc import AsyncIterator

import pytest

from agent_session.transcript.volume import Volume
from tests.channels.slack_out_support import Workplace
from tests.fakes.slack import FakeSlack, fake_slack


@pytest.fixture
async def fake() -> AsyncIterator[FakeSlack]:
    async with fake_slack() as made:
        yield made


@pytest.fixture
def slack(fake: FakeSlack) -> FakeSlack:
    """The same, where nothing of ours stands before it."""
    return fake


@pytest.fixture
def place(slack: FakeSlack, volume: Volume) -> Workplace:
    return Workplace(slack, volume)

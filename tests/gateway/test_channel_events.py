"""Slack posts its events to the gateway: signed by Slack or refused, accepted by Temporal or posted again."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.fakes.slack import FakeSlack, fake_slack
from tests.gateway.support import Door, door
from tests.support import Service, fresh_key

PATH = "/channels/slack/events"
KEY = fresh_key()


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    async with fake_slack() as made:
        yield made


@pytest.fixture
async def posted_to(make_service: Callable[..., Any], slack: FakeSlack) -> AsyncIterator[Door]:
    """A gateway that Slack posts to, without a socket."""
    made: Service = await make_service(slack=slack.settings(app_token="", owners=["U1"], routes={"owner": KEY}))
    async with made.worker("slack"), door(made) as opened:
        slack.events.url = opened.url + PATH
        yield opened


async def test_what_slack_posts_is_answered_in_slack(posted_to: Door, slack: FakeSlack) -> None:
    slack.says("U1", "remember tea")
    assert await slack.until(lambda: slack.texts(slack.dm("U1"))) == ["I will remember: tea"]
    assert [line["content"] for line in posted_to.service.lines(KEY) if line["role"] == "user"] == ["remember tea"]


async def test_what_is_not_signed_by_slack_is_refused(posted_to: Door) -> None:
    said = await posted_to.post(PATH, json={"type": "url_verification", "challenge": "c"})
    assert said.status == 401
    forged = {"X-Slack-Request-Timestamp": "1", "X-Slack-Signature": "v0=" + "0" * 64}
    assert (await posted_to.post(PATH, json={}, headers=forged)).status == 401
    assert (await posted_to.post(PATH, data=b"x" * (1024 * 1024 + 1))).status == 413


@pytest.mark.parametrize("name", ["slack", "file", "heartbeat", "pigeon"])
async def test_a_channel_that_takes_nothing_by_http_is_not_there(gateway: Door, name: str) -> None:
    said = await gateway.post(f"/channels/{name}/events", json={})
    assert (said.status, said.code) == (404, "no_such_path")

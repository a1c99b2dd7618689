"""Slack's events by HTTP: nothing without Slack's signature, 200 only when Temporal has accepted."""

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest

from channels.slack.http import HttpEvents
from tests.channels.slack_in_support import OWNER, Slack, made
from tests.fakes.slack import FakeSlack
from tests.gateway.support import door


@pytest.fixture
async def slack(fake: FakeSlack, make_service: Callable[..., Any]) -> AsyncIterator[Slack]:
    made_of = await made(fake, make_service, slack={"app_token": ""})
    async with made_of.worker(), made_of.replica(), door(made_of.service) as gateway:
        fake.events.url = f"{gateway.url}/channels/slack/events"
        yield made_of


async def test_messages_commands_and_retries_come_in_by_http(slack: Slack) -> None:
    slack.fake.says(OWNER, "remember blue")
    assert await slack.answers(slack.fake.dm(OWNER)) == ["I will remember: blue"]
    helped = slack.fake.slash(OWNER, "/agent", "help")
    await slack.fake.until(helped.acked.is_set)
    assert helped.answer is not None
    assert "/agent stop" in json.loads(helped.answer["text"])["text"]
    for envelope in list(slack.fake.events.envelopes):
        slack.fake.events.tell(envelope.kind, envelope.payload)
    await slack.settled()
    assert slack.service.said(slack.main) == ["remember blue"]
    assert not slack.fake.calls("apps.connections.open")


async def test_what_slack_did_not_sign_is_refused_and_has_no_effect(slack: Slack) -> None:
    handler = HttpEvents(never, "signing-canary-key")
    event = {"type": "message", "user": OWNER, "text": "remember", "channel": slack.fake.dm(OWNER), "ts": "1.1"}
    body = json.dumps({"type": "event_callback", "event": event}).encode()
    good = {"Content-Type": "application/json", **slack.fake.events.signed(body)}
    old = slack.fake.events.signed(body, int(time.time()) - 600)
    forged = [
        {}, {**good, "X-Slack-Signature": "v0=00"}, {**good, **old}, {**good, "X-Slack-Request-Timestamp": "soon"},
    ]  # fmt: skip
    for headers in forged:
        assert await handler.handle(body, headers) == (401, b"")
    assert await handler.handle(body + b" ", good) == (401, b"")
    assert await handler.handle(b"\xff", slack.fake.events.signed(b"")) == (401, b"")
    junk = b"{not json"
    assert await handler.handle(junk, {**good, **slack.fake.events.signed(junk)}) == (400, b"")
    async with aiohttp.ClientSession() as session, session.post(slack.fake.events.url, data=body) as answer:
        assert answer.status == 401
    assert not slack.fake.calls("auth.test"), "a stranger's request makes us ask Slack nothing"


async def test_slacks_question_whether_the_address_is_ours_is_answered(slack: Slack) -> None:
    body = json.dumps({"type": "url_verification", "challenge": "abc"}).encode()
    handler = HttpEvents(never, "signing-canary-key")
    assert await handler.handle(body, slack.fake.events.signed(body)) == (200, b'{"challenge":"abc"}')


async def test_what_was_not_accepted_is_answered_so_that_slack_comes_again(slack: Slack) -> None:
    slack.fake.events.redeliver_after_s = 0.2
    slack.fake.limit("users.info")
    slack.fake.says(OWNER, "remember blue")
    assert await slack.answers(slack.fake.dm(OWNER)) == ["I will remember: blue"]
    assert slack.fake.events.envelopes[0].sent == 2


async def never() -> Any:
    raise AssertionError("nothing may get this far")

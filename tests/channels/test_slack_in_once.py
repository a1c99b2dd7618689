"""Slack's way in under faults: acknowledged only when accepted, delivered again when not, answered once (I1)."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from structlog.testing import capture_logs
from temporalio.client import Client
from temporalio.service import RetryConfig

from tests.channels.slack_in_support import FRIEND, OWNER, Slack, made
from tests.fakes.slack import APP_TOKEN, BOT_TOKEN, FakeSlack, fake_slack


@pytest.fixture
async def fake() -> AsyncIterator[FakeSlack]:
    async with fake_slack() as slack:
        slack.events.redeliver_after_s = 0.5
        slack.events.retries = 40
        yield slack


@pytest.fixture
async def slack(fake: FakeSlack, make_service: Callable[..., Any]) -> Slack:
    return await made(fake, make_service)


class Wire:
    """A line to Temporal that can be cut."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self.is_up = True
        self.address = ""
        self._open: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Wire"]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            self.cut()
            server.close()

    def cut(self) -> None:
        self.is_up = False
        for writer in list(self._open):
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.is_up:
            writer.transport.abort()
            return
        there, here = await asyncio.open_connection(self._host, int(self._port))
        self._open |= {writer, here}
        with suppress(OSError):
            await asyncio.gather(_pump(reader, here), _pump(there, writer))


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65_536):
        sink.write(data)
        await sink.drain()
    sink.close()


async def impatient(address: str) -> Client:
    """A client whose calls fail soon where Temporal is away; by itself it tries for ten seconds."""
    return await Client.connect(address, retry_config=RetryConfig(max_elapsed_time_millis=200, max_retries=2))


def refusals(logs: Sequence[Any]) -> int:
    return sum(one["event"].startswith("not accepted") for one in logs)


def people(slack: Slack) -> list[Any]:
    """What the app was told of what the owner said."""
    events = slack.fake.events.envelopes
    return [one for one in events if one.payload.get("event", {}).get("user") == OWNER]


async def test_an_event_is_acknowledged_only_when_temporal_has_accepted_it(slack: Slack) -> None:
    async with Wire(slack.service.settings.temporal.address).running() as wire, slack.worker():
        async with slack.replica(await impatient(wire.address)):
            await slack.connected()
            wire.cut()
            with capture_logs() as logs:
                slack.fake.says(OWNER, "remember blue")
                (envelope,) = people(slack)
                await slack.fake.until(lambda: refusals(logs) >= 2)
            assert not envelope.acked.is_set()
            assert envelope.sent >= 2
            wire.is_up = True
            await slack.fake.until(envelope.acked.is_set, 60)
            assert await slack.answers(slack.fake.dm(OWNER)) == ["I will remember: blue"]
            await slack.settled()
    assert slack.service.said(slack.main) == ["remember blue"]
    assert slack.fake.texts(slack.fake.dm(OWNER)) == ["I will remember: blue"]


async def test_what_slack_has_given_up_is_handed_over_when_temporal_is_back(slack: Slack) -> None:
    slack.fake.events.redeliver_after_s, slack.fake.events.retries = 0.1, 3
    async with Wire(slack.service.settings.temporal.address).running() as wire, slack.worker():
        async with slack.replica(await impatient(wire.address)):
            await slack.connected()
            wire.cut()
            with capture_logs() as logs:
                slack.fake.says(OWNER, "remember blue")
                (envelope,) = people(slack)
                await slack.fake.until(lambda: envelope.given_up and refusals(logs) == 4)
            wire.is_up = True
            assert await slack.answers(slack.fake.dm(OWNER)) == ["I will remember: blue"]
    assert slack.service.said(slack.main) == ["remember blue"]


async def test_an_event_that_is_delivered_again_is_answered_once(slack: Slack) -> None:
    async with slack.up():
        slack.fake.says(OWNER, "remember blue")
        await slack.answers(slack.fake.dm(OWNER))
        (envelope,) = people(slack)
        again = [slack.fake.events.tell(envelope.kind, envelope.payload) for _ in range(5)]
        await slack.settled()
        assert all(one.acked.is_set() for one in again)
    async with slack.up():  # a new process remembers nothing of its own
        again = [slack.fake.events.tell(envelope.kind, envelope.payload) for _ in range(5)]
        await slack.settled()
        slack.fake.says(OWNER, "remember red")
        assert (await slack.answers(slack.fake.dm(OWNER), count=2))[1] == "I will remember: red"
    assert slack.service.said(slack.main) == ["remember blue", "remember red"]


async def test_a_mention_comes_as_two_events_and_is_one_message(slack: Slack) -> None:
    async with slack.up(2):
        thread = slack.fake.mentions(OWNER, "remember blue")
        await slack.answers("C1", thread)
        await slack.settled()
        kinds = {one.payload["event"]["type"] for one in people(slack)}
        assert kinds == {"message", "app_mention"}
    assert slack.service.said(slack.thread_key("C1", thread)) == ["remember blue"]
    assert slack.fake.texts("C1", thread) == ["I will remember: blue"]


async def test_a_connection_that_breaks_in_mid_event_loses_nothing_and_doubles_nothing(slack: Slack) -> None:
    async with slack.up():
        dm = slack.fake.dm(OWNER)
        for number in range(5):
            slack.fake.events.drop_after_sending = 1
            slack.fake.says(OWNER, f"remember {number}")
            (*_, newest) = people(slack)
            await slack.fake.until(newest.acked.is_set)
        await slack.fake.until(lambda: len(slack.service.said(slack.main)) == 5)
        await slack.settled()
        assert slack.fake.events.opened >= 5
        await slack.fake.until(lambda: "I will remember: 4" in "\n".join(slack.fake.texts(dm)))
        said = "\n".join(slack.fake.texts(dm))
    assert slack.service.said(slack.main) == [f"remember {number}" for number in range(5)]
    assert [said.count(f"I will remember: {number}") for number in range(5)] == [1] * 5


async def test_slack_asks_the_app_to_come_again_and_it_does(slack: Slack) -> None:
    async with slack.up():
        (connection,) = slack.fake.events.connections
        await connection.disconnect()
        slack.fake.says(OWNER, "remember blue")
        assert await slack.answers(slack.fake.dm(OWNER)) == ["I will remember: blue"]
        assert connection not in slack.fake.events.connections


async def test_two_replicas_answer_once_whoever_is_told(slack: Slack) -> None:
    async with slack.up(2):
        dm = slack.fake.dm(OWNER)
        for number in range(6):
            slack.fake.says(OWNER, f"remember {number}")
        await slack.fake.until(lambda: len(slack.service.said(slack.main)) == 6)
        for envelope in people(slack):
            slack.fake.events.tell(envelope.kind, envelope.payload)
        await slack.settled()
        assert {number for one in people(slack) for number in one.sent_to} == {1, 2}
        await slack.fake.until(lambda: "\n".join(slack.fake.texts(dm)).count("I will remember") == 6)
    assert sorted(slack.service.said(slack.main)) == [f"remember {number}" for number in range(6)]


async def test_one_replica_dies_with_an_event_in_its_hands_and_the_other_answers(slack: Slack) -> None:
    async with slack.worker():
        replicas = [slack.replica(), slack.replica()]
        for number, one in enumerate(replicas, 1):
            await one.__aenter__()
            await slack.connected(number)
        slack.fake.fault("users.info", until=asyncio.Event())
        slack.fake.says(OWNER, "remember blue")
        await slack.fake.until(lambda: slack.fake.calls("users.info"))
        (envelope,) = people(slack)
        (told,) = envelope.sent_to
        await replicas.pop(told - 1).__aexit__(None, None, None)
        assert await slack.answers(slack.fake.dm(OWNER)) == ["I will remember: blue"]
        assert envelope.sent_to[-1] != told
        await replicas.pop().__aexit__(None, None, None)
    assert slack.service.said(slack.main) == ["remember blue"]


async def test_a_revoked_app_token_is_waited_out_and_the_connection_comes_back(slack: Slack) -> None:
    slack.fake.revoke(APP_TOKEN)
    async with slack.worker(), slack.replica():
        await slack.fake.until(lambda: len(slack.fake.calls("apps.connections.open")) >= 2)
        assert not slack.fake.events.connections
        slack.fake.grant_again()
        await slack.connected()
        slack.fake.says(OWNER, "remember blue")
        assert await slack.answers(slack.fake.dm(OWNER)) == ["I will remember: blue"]


async def test_a_revoked_bot_token_ends_nothing_and_is_not_asked_about_all_the_time(slack: Slack) -> None:
    slack.fake.revoke(BOT_TOKEN)
    async with slack.worker(), slack.replica() as channel:
        await slack.fake.until(lambda: len(slack.fake.calls("auth.test")) >= 2)
        assert "token_revoked" in await channel.probe()
        assert len(slack.fake.calls("auth.test")) <= 4
        slack.fake.grant_again()
        await slack.connected()
        slack.fake.says(OWNER, "remember blue")
        assert await slack.answers(slack.fake.dm(OWNER)) == ["I will remember: blue"]


async def test_a_bot_token_that_is_revoked_in_mid_life_is_said_clearly_and_loses_no_message(slack: Slack) -> None:
    async with slack.up():
        slack.fake.revoke(BOT_TOKEN)
        with capture_logs() as logs:
            slack.fake.says(OWNER, "remember blue")
            await slack.fake.until(lambda: refusals(logs) >= 2)
        assert "Slack refuses slack.bot_token (token_revoked): make a new token" in str(logs)
        slack.fake.grant_again()
        assert await slack.answers(slack.fake.dm(OWNER)) == ["I will remember: blue"]
    assert slack.service.said(slack.main) == ["remember blue"]


async def test_a_name_that_slack_does_not_tell_now_is_asked_again_with_the_next_delivery(slack: Slack) -> None:
    async with slack.up():
        slack.fake.limit("users.info")
        slack.fake.says(OWNER, "remember <@U2>")
        await slack.answers(slack.fake.dm(OWNER))
        assert people(slack)[0].sent == 2
    assert slack.service.said(slack.main) == ["remember @bob"]


async def test_whatever_happens_to_the_connections_each_message_is_taken_once(slack: Slack) -> None:
    """Two replicas, two people, and a random fault with every message."""
    chance = random.Random(7)
    said: dict[str, list[str]] = {OWNER: [], FRIEND: []}
    async with slack.up(2):
        for number in range(40):
            events, user = slack.fake.events, chance.choice((OWNER, FRIEND))
            fault = chance.randrange(5)
            if fault == 0:
                events.drop_after_sending = 1
            elif fault == 1 and events.connections:
                await chance.choice(events.connections).disconnect("warning")
            elif fault == 2 and events.connections:
                chance.choice(events.connections).drop()
            elif fault == 3 and people(slack):
                old = chance.choice(people(slack))
                events.tell(old.kind, old.payload)
            said[user].append(f"remember {number}")
            slack.fake.says(user, f"remember {number}")
        await slack.fake.until(lambda: len(slack.service.said(slack.main)) >= len(said[OWNER]), 60)
        await slack.fake.until(lambda: len(slack.service.said(slack.dm_key(FRIEND))) >= len(said[FRIEND]), 60)
        await slack.settled()
    assert sorted(slack.service.said(slack.main)) == sorted(said[OWNER])
    assert sorted(slack.service.said(slack.dm_key(FRIEND))) == sorted(said[FRIEND])

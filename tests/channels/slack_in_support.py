"""A service with the Slack channel in this process, and the fake that stands in for Slack's servers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from temporalio.client import Client

from agent_session.client import NoSuchSession, SessionClient
from agent_session.connection import connect
from agent_session.operations import load_services
from agent_session.worker import channel_worker, session_worker
from channels.slack.channel import SlackChannel
from tests.fakes.slack import FakeSlack
from tests.support import Service, fresh_key

OWNER, FRIEND, STRANGER = "U1", "U2", "U3"
PING_S = 1.0


class Slack:
    """What a test talks to: people in the fake, sessions in the service."""

    def __init__(self, fake: FakeSlack, service: Service, name: str) -> None:
        self.fake, self.service, self.name = fake, service, name
        self.main = f"{name}-main"  #: the owner's direct messages
        self.running: list[asyncio.Task[None]] = []

    def thread_key(self, channel: str, thread: str) -> str:
        return f"{self.name}/{channel}/{thread}"

    def dm_key(self, user: str) -> str:
        return f"{self.name}-dm/{user}"

    async def connected(self, count: int = 1) -> None:
        await self.fake.until(lambda: len(self.fake.events.connections) == count)

    @asynccontextmanager
    async def replica(self, temporal: Client | None = None) -> AsyncIterator[SlackChannel]:
        """One process' worth of the channel: its way in and its deliveries."""
        channel = SlackChannel(self.service.settings, ping_s=PING_S)
        sessions = SessionClient(temporal or self.service.temporal, self.service.settings, channel="slack")
        sessions.grants = ()
        client = await connect(self.service.settings)
        delivering = channel_worker(client, channel, self.service.settings)
        tasks = [asyncio.create_task(channel.run(sessions)), asyncio.create_task(delivering.run())]
        try:
            yield channel
        finally:
            tasks[0].cancel()
            await delivering.shutdown()
            await asyncio.gather(*tasks, return_exceptions=True)

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """Somebody who takes the sessions' steps."""
        worker = session_worker(await connect(self.service.settings), load_services(self.service.settings))
        task = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            await worker.shutdown()
            await task

    @asynccontextmanager
    async def up(self, replicas: int = 1) -> AsyncIterator["Slack"]:
        """Everything, connected."""
        async with self.worker():
            running = [self.replica() for _ in range(replicas)]
            try:
                for one in running:
                    await one.__aenter__()
                await self.connected(replicas)
                yield self
            finally:
                for one in running:
                    await one.__aexit__(None, None, None)

    async def answers(self, channel: str, thread: str = "", count: int = 1) -> list[str]:
        """Wait for that many answers there, and for their deliveries to be over."""
        await self.fake.until(lambda: len(self.fake.texts(channel, thread)) >= count)
        return self.fake.texts(channel, thread)

    async def is_untouched(self, key: str) -> bool:
        """Whether no session of that key has ever been."""
        try:
            await self.service.client.status(key)
        except NoSuchSession:
            return True
        return False

    async def settled(self) -> None:
        """Everything that Slack told was acknowledged or given up."""
        await self.fake.until(lambda: all(one.acked.is_set() or one.given_up for one in self.fake.events.envelopes))


async def made(fake: FakeSlack, make_service: Callable[..., Any], **more: Any) -> Slack:
    """A service whose settings name the fake; `slack` in `more` adds to its settings."""
    name = fresh_key("slack")
    routes = {
        "owner": f"{name}-main", "dm": f"{name}-dm/{{user}}",
        "thread": f"{name}/{{channel}}/{{thread}}", "channel": f"{name}/{{channel}}",
    }  # fmt: skip
    given = {"owners": [OWNER], "allowed_users": [FRIEND], "allowed_channels": ["C1"], "routes": routes}
    settings = fake.settings(**{**given, **more.pop("slack", {})})
    return Slack(fake, await make_service(slack=settings, **more), name)

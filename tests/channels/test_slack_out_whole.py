"""The whole way, with the real channel and a real worker: an answer grows in Slack and becomes the reply, once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agent_session.connection import connect
from agent_session.live.bus import live_bus
from agent_session.live.hub import LiveHub
from agent_session.models.base import ModelAnswer, Prompt
from agent_session.operations import load_services
from agent_session.worker import session_worker
from tests.channels.slack_in_support import FRIEND, OWNER, Slack, made
from tests.fakes.slack import FakeSlack


class Speaker:
    """A model that says its first words and waits to be let on."""

    name = "speaker"

    def __init__(self) -> None:
        self.on = asyncio.Event()

    async def warm(self) -> None:
        return

    async def answer(self, prompt: Prompt, on_text: Callable[[str], None]) -> ModelAnswer:
        on_text("Once upon a **time** ")
        await self.on.wait()
        on_text("there was an end.")
        return ModelAnswer("Once upon a **time** there was an end.")


@asynccontextmanager
async def speaking(slack: Slack) -> AsyncIterator[Speaker]:
    """A worker with that model, and the live bus of its volume."""
    services = load_services(slack.service.settings)
    services.model = speaker = Speaker()
    services.live = bus = live_bus(slack.service.settings)
    hub = LiveHub(slack.service.settings.data_dir)
    await hub.start()
    worker = session_worker(await connect(slack.service.settings), services)
    tasks = [asyncio.create_task(bus.run()), asyncio.create_task(worker.run())]
    try:
        yield speaker
    finally:
        await worker.shutdown()
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await hub.stop()


@pytest.mark.parametrize("direct", [True, False])
async def test_an_answer_grows_in_slack_and_becomes_the_reply(
    fake: FakeSlack, make_service: Callable[..., Any], direct: bool
) -> None:
    slack = await made(fake, make_service)
    async with speaking(slack) as speaker, slack.replica(), slack.replica():
        await slack.connected(2)
        if direct:
            channel = fake.dm(OWNER)
            thread = fake.workspace.put(channel, {"user": OWNER, "text": "an older message"})["ts"]
            fake.says(OWNER, "tell me a story", thread=thread)
        else:
            channel, thread = "C1", fake.mentions(OWNER, "tell me a story")
        await fake.until(lambda: "Once upon" in "".join(fake.texts(channel, thread)))
        speaker.on.set()
        await fake.until(lambda: "there was an end." in "".join(fake.texts(channel, thread)))
        key = slack.main if direct else slack.thread_key(channel, thread)
        await slack.service.until(key, lambda status: status.deliveries == 0 and status.state == "idle")
    (text,) = fake.texts(channel, thread)
    assert text.replace("**", "*") == "Once upon a *time* there was an end."
    assert bool(fake.calls("chat.stopStream")) == direct


async def test_an_answer_whose_streaming_process_died_is_finished_by_another(
    fake: FakeSlack, make_service: Callable[..., Any]
) -> None:
    slack = await made(fake, make_service)
    async with speaking(slack) as speaker:
        async with slack.replica():
            await slack.connected()
            thread = fake.mentions(OWNER, "tell me a story")
            await fake.until(lambda: fake.texts("C1", thread))
        speaker.on.set()
        async with slack.replica():
            await fake.until(lambda: "there was an end." in "".join(fake.texts("C1", thread)))
    assert fake.texts("C1", thread) == ["Once upon a *time* there was an end."]


async def test_what_a_friend_asks_for_is_decided_in_the_owners_direct_messages(
    fake: FakeSlack, make_service: Callable[..., Any]
) -> None:
    """The friend may not decide, and no owner reads the friend's direct messages."""
    slack = await made(fake, make_service, tools={"ask": ["shell"]})
    async with slack.up():
        fake.says(FRIEND, "run echo for a friend")
        (card,) = await fake.until(lambda: [one for one in fake.messages(fake.dm(OWNER)) if one.get("blocks")])
        assert "echo for a friend" in str(card["blocks"])
        envelope = fake.presses(OWNER, "Allow once", ts=card["ts"])
        await fake.until(envelope.acked.is_set)
        await fake.until(lambda: "for a friend" in said(fake, FRIEND))
        await slack.service.until(slack.dm_key(FRIEND), lambda status: status.state == "idle")
    assert f"<@{OWNER}> may decide" in str(fake.workspace.all(fake.dm(FRIEND)))


def said(fake: FakeSlack, user: str) -> str:
    """What the app said last in that person's direct messages, in a thread or not."""
    mine = [str(one["text"]) for one in fake.workspace.all(fake.dm(user)) if one.get("bot_id")]
    return mine[-1] if mine else ""

"""Requests for a decision in Slack: a card for each call that waits, decided by pressing."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from agent_session.domain.outbound import CARD, Outbound
from channels.slack.cards import ALWAYS_ACTION, DENY_ACTION, ONCE_ACTION, Choice, choice_of, decided
from channels.slack.web import web_client
from tests.channels.slack_out_support import Workplace
from tests.fakes.slack import TEAM, FakeSlack
from tests.support import Service, fresh_key


@pytest.fixture
async def service(make_service: Any) -> AsyncIterator[Service]:
    made: Service = await make_service(tools={"ask": ["shell"]})
    async with made.worker():
        yield made


async def asking(service: Service, words: str) -> tuple[str, str, Outbound]:
    """A turn that waits for a person: session, message id, and the card as it is delivered."""
    key = fresh_key()
    receipt = await service.client.send(key, words)
    status = await service.until(key, lambda status: status.state == "waiting approval")
    card = f"{status.turn}-{status.step}-card"
    out = Outbound(session=key, place=f"{TEAM}/C1", reply=card, text="This waits for a person: *rm*", kind=CARD)
    return key, receipt.id, out


def buttons(message: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for block in message["blocks"] if block["type"] == "actions" for one in block["elements"]]


def choices(message: dict[str, Any]) -> list[Choice]:
    found = [choice_of(one["action_id"], one["value"]) for one in buttons(message)]
    assert all(found)
    return [one for one in found if one is not None]


async def test_a_press_decides_on_what_the_card_shows(service: Service, slack: FakeSlack) -> None:
    place = Workplace(slack, service.volume)
    key, message_id, out = await asking(service, "run echo hello")
    for _ in range(2):
        await place.poster(service.client).post(out)
    (message,) = place.own("C1")
    assert "command: echo hello" in str(message["blocks"])
    assert [one["action_id"] for one in buttons(message)] == [ONCE_ACTION, ALWAYS_ACTION, DENY_ACTION]
    choice = choices(message)[0]
    await service.client.resolve(choice.session, choice.call, choice.digest, choice.decision, pattern=choice.pattern)
    assert "hello" in (await service.client.await_reply(key, message_id, timeout_s=30)).text


async def test_always_lets_calls_like_it_run(service: Service, slack: FakeSlack) -> None:
    place = Workplace(slack, service.volume)
    key, message_id, out = await asking(service, "run echo hello")
    await place.poster(service.client).post(out)
    always = choices(place.own("C1")[0])[1]
    await service.client.resolve(always.session, always.call, always.digest, always.decision, pattern=always.pattern)
    assert (await service.client.await_reply(key, message_id, timeout_s=30)).ok
    assert (await service.ask(key, "run echo hello")).ok


async def test_each_call_that_waits_has_its_own_buttons(service: Service, slack: FakeSlack) -> None:
    place = Workplace(slack, service.volume)
    key, message_id, out = await asking(service, "tools run echo one; run echo two")
    await place.poster(service.client).post(out)
    (message,) = place.own("C1")
    once = [one for one in choices(message) if one.decision == "allow" and not one.pattern]
    assert len({one.call for one in once}) == 2
    web = web_client(place.settings)
    for choice in once:
        await service.client.resolve(choice.session, choice.call, choice.digest, choice.decision)
        await web.chat_update(channel="C1", ts=message["ts"], **decided(place.own("C1")[0], "U1", choice))
    (message,) = place.own("C1")
    assert buttons(message) == []
    assert str(message["blocks"]).count("Allowed once* by <@U1>") == 2
    reply = await service.client.await_reply(key, message_id, timeout_s=30)
    assert "one" in reply.text
    assert "two" in reply.text


async def test_a_call_that_is_decided_already_gets_no_buttons(service: Service, slack: FakeSlack) -> None:
    place = Workplace(slack, service.volume)
    key, message_id, out = await asking(service, "run echo hello")
    (call,) = service.client.waiting_calls(key, await service.client.status(key))
    await service.client.resolve(key, call["call"], call["digest"], "deny")
    await service.client.await_reply(key, message_id, timeout_s=30)
    await place.poster(service.client).post(out)
    (message,) = place.own("C1")
    assert message["text"] == "```\nThis waits for a person: *rm*\n```"
    assert "blocks" not in message


async def test_a_card_that_was_posted_stays_the_only_one_when_its_call_is_decided_meanwhile(
    service: Service, slack: FakeSlack
) -> None:
    """The process died between post and record, and the card looks otherwise by now."""
    place = Workplace(slack, service.volume)
    key, message_id, out = await asking(service, "run echo hello")
    slack.fault("chat.postMessage", after=True, drop=True)
    with pytest.raises(Exception, match="no answer"):
        await place.poster(service.client).post(out)
    choice = choices(place.own("C1")[0])[2]
    await service.client.resolve(choice.session, choice.call, choice.digest, choice.decision)
    await service.client.await_reply(key, message_id, timeout_s=30)
    await place.poster(service.client).post(replace(out, text="words\n\n" * 2_000))
    assert len(place.own("C1")) == 1


async def test_the_words_of_the_session_reach_the_notification(service: Service, slack: FakeSlack) -> None:
    place = Workplace(slack, service.volume)
    _, _, out = await asking(service, "run echo hello")
    await place.poster(service.client).post(out)
    assert slack.texts("C1") == ["This waits for a person: *rm*"]


async def test_without_a_client_the_words_are_posted(service: Service, slack: FakeSlack) -> None:
    place = Workplace(slack, service.volume)
    _, _, out = await asking(service, "run echo hello")
    await place.poster().post(out)
    assert "blocks" not in place.own("C1")[0]

"""Requests for a decision in Slack: a card for each call that waits, decided by pressing."""

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from agent_session.client import SessionClient
from agent_session.domain.outbound import CARD, Outbound
from channels.slack.cards import (
    ALWAYS_ACTION,
    DENY_ACTION,
    ONCE_ACTION,
    Choice,
    card_blocks,
    choice_of,
    decided,
)
from channels.slack.posting_calls import NotDone, Unsure
from channels.slack.web import web_client
from tests.channels.slack_in_support import OWNER, made
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


@pytest.mark.parametrize("error", ["invalid_blocks", "msg_blocks_too_long"])
async def test_a_card_that_slack_refuses_is_posted_as_words(service: Service, slack: FakeSlack, error: str) -> None:
    """Else the request is never shown, and its turn waits for a day."""
    place = Workplace(slack, service.volume)
    _, _, out = await asking(service, "run echo hello")
    slack.fault("chat.postMessage", error)
    for _ in range(2):
        await place.poster(service.client).post(out)
    (message,) = place.own("C1")
    assert "This waits for a person: *rm*" in message["text"]
    assert "`@agent /allow CODE`" in message["text"]
    assert "blocks" not in message


async def test_a_crash_while_the_words_of_a_refused_card_are_posted_leaves_them_once(
    service: Service, slack: FakeSlack
) -> None:
    place = Workplace(slack, service.volume)
    _, _, out = await asking(service, "run echo hello")
    slack.fault("chat.postMessage", "invalid_blocks")
    slack.fault("chat.postMessage", after=True, drop=True)
    with pytest.raises(Unsure):
        await place.poster(service.client).post(out)
    await place.poster(service.client).post(out)
    assert len(place.own("C1")) == 1
    assert len(slack.calls("chat.postMessage")) == 2


@pytest.mark.parametrize("count", [1, 3, 12, 40])
@pytest.mark.parametrize("chars", [10, 900, 5_900, 20_000])
def test_a_card_is_never_larger_than_slack_takes(count: int, chars: int) -> None:
    """Of all its blocks together Slack takes some 13,000 characters; the first call is there in any case."""
    calls = [
        {
            "call": f"t-0123456789abcdef-1-{number}", "tool": "shell", "why": "& policy " * 200, "digest": "d" * 64,
            "args": json.dumps({"command": "\n" * (chars // 2) + '"' * (chars // 2)}), "pattern": "p" * 1_500,
        }
        for number in range(count)
    ]  # fmt: skip
    blocks = card_blocks(calls, "k" * 200)
    shown = sum(block["type"] == "actions" for block in blocks)
    assert shown >= 1
    assert len(json.dumps(blocks, ensure_ascii=False)) <= 11_000
    assert (f"and {count - shown} more" in str(blocks)) == (shown < count)
    whole = [block for block in blocks if block["type"] == "actions" and "Allow once" in str(block)]
    assert len(whole) == sum(block["type"] == "rich_text" for block in blocks), "what is not shown cannot be allowed"


def asker(service: Service, user: str) -> SessionClient:
    principal = f"slack:{TEAM}:{user}" if user else "nobody"
    return SessionClient(service.temporal, service.settings, channel="slack", principal=principal)


async def owned(service: Service, slack: FakeSlack, user: str, place: str = f"{TEAM}/C1") -> tuple[Workplace, Outbound]:
    """A card about a call in a turn that `user` began; U1 is the owner."""
    key = fresh_key()
    await asker(service, user).send(key, "run echo hello")
    status = await service.until(key, lambda status: status.state == "waiting approval")
    made = Workplace(slack, service.volume)
    made.settings = made.settings.model_copy(update={"owners": ("U1",)})
    return made, Outbound(session=key, place=place, reply=f"{status.turn}-{status.step}-card", text="ask", kind=CARD)


async def test_a_card_that_who_asked_may_not_decide_says_who_may_and_goes_to_an_owner(
    service: Service, slack: FakeSlack
) -> None:
    place, out = await owned(service, slack, "U2", f"{TEAM}/{slack.dm('U2')}")
    for _ in range(2):
        await place.poster(service.client).post(out)
    (card,) = place.own(slack.dm("U2"))
    assert f"<@U1> may decide on this, here or with `agent-session approvals list {out.session}`" in str(card["blocks"])
    (copy,) = place.own(slack.dm("U1"))
    choice = choices(copy)[0]
    assert choice.session == out.session
    await service.client.resolve(choice.session, choice.call, choice.digest, choice.decision)
    await service.until(out.session, lambda status: status.state == "idle")


async def test_an_owners_own_request_is_asked_where_it_was_made(service: Service, slack: FakeSlack) -> None:
    place, out = await owned(service, slack, "U1")
    await place.poster(service.client).post(out)
    (card,) = place.own("C1")
    assert "may decide" not in str(card["blocks"])
    assert slack.calls("conversations.open") == []


async def test_an_owner_who_reads_the_card_anyway_gets_it_once(service: Service, slack: FakeSlack) -> None:
    place, out = await owned(service, slack, "", f"{TEAM}/{slack.dm('U1')}")
    await place.poster(service.client).post(out)
    assert len(place.own(slack.dm("U1"))) == 1


async def test_where_no_owner_can_be_told_the_card_stands_all_the_same(service: Service, slack: FakeSlack) -> None:
    place, out = await owned(service, slack, "U2")
    slack.fault("conversations.open", "user_not_found")
    await place.poster(service.client).post(out)
    assert len(choices(place.own("C1")[0])) == 3
    await place.poster(service.client).post(out)
    assert len(place.own("C1")) == 1


async def test_without_owners_the_card_says_how_it_is_decided(service: Service, slack: FakeSlack) -> None:
    place, out = await owned(service, slack, "U2")
    place.settings = place.settings.model_copy(update={"owners": ()})
    await place.poster(service.client).post(out)
    assert "Nobody may decide on this in Slack; on its host:" in str(place.own("C1")[0]["blocks"])


async def test_a_crash_between_the_card_and_its_copy_loses_neither(service: Service, slack: FakeSlack) -> None:
    place, out = await owned(service, slack, "U2")
    slack.fault("conversations.open", drop=True, error="lost")
    with pytest.raises(Unsure):
        await place.poster(service.client).post(out)
    await place.poster(service.client).post(out)
    assert (len(place.own("C1")), len(place.own(slack.dm("U1")))) == (1, 1)


async def test_a_call_that_is_decided_meanwhile_is_not_asked_of_an_owner(service: Service, slack: FakeSlack) -> None:
    place, out = await owned(service, slack, "U2")
    (call,) = service.client.waiting_calls(out.session, await service.client.status(out.session))
    await service.client.resolve(out.session, call["call"], call["digest"], "deny")
    await service.until(out.session, lambda status: status.state == "idle")
    await place.poster(service.client).post(out)
    assert place.own(slack.dm("U1")) == []


async def test_who_decided_is_written_on_the_card_when_slack_takes_it(fake: FakeSlack, make_service: Any) -> None:
    """A limit that another conversation met, too."""
    made_here = await made(fake, make_service, tools={"ask": ["shell"]})
    async with made_here.up():
        thread = fake.mentions(OWNER, "run echo hello")

        def cards() -> list[dict[str, Any]]:
            return [one for one in fake.messages("C1", thread) if one.get("blocks")]

        (card,) = await fake.until(cards)
        fake.limit("chat.update", retry_after=1)
        fake.presses(OWNER, "Deny", ts=card["ts"])
        await fake.until(lambda: f"*Denied* by <@{OWNER}>" in str(cards()))


async def test_while_no_worker_says_what_waits_a_card_and_its_copy_are_tried_again(
    make_service: Any, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Service = await make_service(tools={"ask": ["shell"]})
    async with service.worker():
        place, out = await owned(service, slack, "U2")
    with pytest.raises(NotDone, match="no worker"):
        await place.poster(service.client).post(out)
    monkeypatch.setattr("channels.slack.posting_cards.PATIENCE_S", 0.0)
    for _ in range(5):
        with suppress(NotDone):  # a session that no worker speaks for takes seconds to ask: an attempt's time
            await place.poster(service.client).post(out)
            break
    assert [len(place.own(channel)) for channel in ("C1", slack.dm("U1"))] == [1, 1], "in words, in the end"

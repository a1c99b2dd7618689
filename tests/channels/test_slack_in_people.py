"""Who is answered in Slack, and who decides (I9, I10)."""

import stat
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from channels.slack import pairing
from channels.slack.cards import card_blocks
from tests.channels.slack_in_support import FRIEND, OWNER, STRANGER, Slack, made
from tests.fakes.slack import Envelope, FakeSlack
from tests.support import decoded


@pytest.fixture
async def slack(fake: FakeSlack, make_service: Callable[..., Any]) -> AsyncIterator[Slack]:
    tools = {"ask": ["shell"], "shell": {"sandbox": "none"}}
    async with (await made(fake, make_service, tools=tools)).up() as running:
        yield running


async def test_a_stranger_gets_a_code_once_and_after_its_approval_is_answered(slack: Slack) -> None:
    dm = slack.fake.dm(STRANGER)
    for words in ("hello", "anybody there?", "run id"):
        slack.fake.says(STRANGER, words)
    await slack.settled()
    (text,) = slack.fake.texts(dm)
    (code,) = pairing.waiting(slack.service.volume)
    assert f"agent-session channels pair approve {code.code}" in text
    assert await slack.is_untouched(slack.dm_key(STRANGER))
    assert pairing.approve(slack.service.volume, code.code.lower()).name == "eve"
    slack.fake.says(STRANGER, "remember blue")
    assert (await slack.answers(dm, count=2))[1] == "I will remember: blue"
    with pytest.raises(pairing.NoSuchCode):
        pairing.approve(slack.service.volume, code.code)
    assert pairing.remove(slack.service.volume, STRANGER)
    slack.fake.says(STRANGER, "remember red")
    await slack.settled()
    assert slack.service.said(slack.dm_key(STRANGER)) == ["remember blue"]


async def test_a_stranger_in_a_channel_is_met_with_silence(slack: Slack) -> None:
    thread = slack.fake.mentions(STRANGER, "hello")
    slack.fake.slash(STRANGER, "/agent", "status", channel="C1")
    await slack.settled()
    asked = {call.method for call in slack.fake.calls()}
    assert not {"chat.postMessage", "chat.postEphemeral"} & asked
    assert pairing.waiting(slack.service.volume) == []
    assert await slack.is_untouched(slack.thread_key("C1", thread))


async def test_somebody_who_may_only_talk_has_no_shell_and_decides_on_nothing(slack: Slack) -> None:
    dm = slack.fake.dm(FRIEND)
    slack.fake.says(FRIEND, "run id")
    (text,) = await slack.answers(dm)
    assert "uid=" not in text
    slack.fake.says(FRIEND, "/allow abcdef")
    assert (await slack.answers(dm, count=2))[1] == "You may not decide on tool calls here."


async def waiting_card(slack: Slack) -> tuple[str, str, str]:
    """A call of the owner's that waits in a thread, and the card that shows it: thread, card's ts, session."""
    thread = slack.fake.mentions(OWNER, "run echo it >> ran")

    def cards() -> list[str]:
        return [one["ts"] for one in slack.fake.messages("C1", thread) if "Allow once" in str(one.get("blocks"))]

    (card,) = await slack.fake.until(cards)
    return thread, card, slack.thread_key("C1", thread)


def shown(slack: Slack, ts: str) -> str:
    return str(slack.fake.workspace.need("C1", ts)["blocks"])


async def pressed(slack: Slack, user: str, button: str, ts: str) -> Envelope:
    envelope = slack.fake.presses(user, button, ts=ts)
    await slack.fake.until(envelope.acked.is_set)
    return envelope


async def test_who_speaks_while_a_decision_is_waited_for_is_told_whose_it_is(slack: Slack) -> None:
    """Each direct message has a thread of its own, and is one person's all the same."""
    dm = slack.fake.dm(OWNER)
    first = slack.fake.says(OWNER, "run echo it >> ran")
    (card,) = await slack.fake.until(lambda: [one for one in slack.fake.messages(dm, first) if one.get("blocks")])
    second = slack.fake.says(OWNER, "remember blue")
    (told,) = await slack.answers(dm, second)
    assert told.startswith("A tool call for an earlier message of yours waits for a decision.")
    await pressed(slack, OWNER, "Allow once", card["ts"])
    assert (await slack.answers(dm, second, 2))[1] == "I will remember: blue"


async def test_who_speaks_while_a_decision_of_somebody_else_is_waited_for_is_told_that(slack: Slack) -> None:
    thread, card, _ = await waiting_card(slack)
    slack.fake.mentions(FRIEND, "remember red", thread=thread)
    await slack.fake.until(lambda: any("A tool call of somebody else" in one for one in slack.fake.texts("C1", thread)))
    await pressed(slack, OWNER, "Allow once", card)
    await slack.fake.until(lambda: "I will remember: red" in slack.fake.texts("C1", thread))


async def test_an_owner_decides_with_a_button_and_it_stands_on_the_card(slack: Slack) -> None:
    _, card, key = await waiting_card(slack)
    await pressed(slack, OWNER, "Allow once", card)
    await slack.fake.until(lambda: f"*Allowed once* by <@{OWNER}>" in shown(slack, card))
    await slack.service.until(key, lambda status: status.state == "idle")
    assert (slack.service.volume.path_of(key) / "workspace" / "ran").read_text() == "it\n"
    assert "Allow once" not in shown(slack, card), "the buttons are gone"


@pytest.mark.parametrize("user", [FRIEND, STRANGER])
async def test_a_press_by_somebody_who_may_not_decide_is_refused_to_them_alone_and_recorded(
    slack: Slack, user: str
) -> None:
    thread, card, key = await waiting_card(slack)
    before = list(slack.fake.texts("C1", thread))
    await pressed(slack, user, "Allow once", card)
    (told,) = slack.fake.workspace.ephemerals
    assert (told["user"], told["text"]) == (user, "You may not decide on tool calls here.")
    status = await slack.service.client.status(key)
    assert status.state == "waiting approval"
    events = "".join(decoded(event) for event in await slack.service.events(key))
    assert f"slack:T0TEAM:{user}" in events, "the session's history holds who tried"
    assert "Allow once" in shown(slack, card), "the card still asks"
    assert slack.fake.texts("C1", thread) == before
    assert not (slack.service.volume.path_of(key) / "workspace" / "ran").exists()
    await pressed(slack, OWNER, "Deny", card)
    await slack.service.until(key, lambda status: status.state == "idle")
    assert not (slack.service.volume.path_of(key) / "workspace" / "ran").exists()


async def test_a_press_that_comes_too_late_is_said_to_be(slack: Slack) -> None:
    _, card, key = await waiting_card(slack)
    await pressed(slack, OWNER, "Deny", card)
    await slack.service.until(key, lambda status: status.state == "idle")
    slack.fake.workspace.need("C1", card)["blocks"] = card_blocks(
        [{"call": "t-0123456789abcdef-1-0", "tool": "shell", "args": "{}", "digest": "d"}], key
    )
    await pressed(slack, OWNER, "Allow once", card)
    assert "does not wait any more" in slack.fake.workspace.ephemerals[-1]["text"]


async def test_the_pairing_file_is_the_operators_alone_and_holds_at_most_a_hundred_open_codes(slack: Slack) -> None:
    volume = slack.service.volume
    codes = [pairing.offer(volume, f"U9{number}", "x") for number in range(pairing.OPEN_CODES + 5)]
    assert sum(map(bool, codes)) == pairing.OPEN_CODES
    assert len(set(filter(None, codes))) == pairing.OPEN_CODES
    assert stat.S_IMODE((volume.root / "channels" / "slack" / pairing.FILE).stat().st_mode) == 0o600
    pairing.shown(volume, "U90")
    assert pairing.offer(volume, "U90", "x") == "", "seen a moment ago"
    assert pairing.offer(volume, "U91", "x") == codes[1], "one code a person"


async def test_a_code_is_good_for_an_hour(slack: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = slack.service.volume
    code = pairing.offer(volume, STRANGER, "eve")
    later = pairing.time.time() + pairing.CODE_S + 1
    monkeypatch.setattr(pairing.time, "time", lambda: later)
    with pytest.raises(pairing.NoSuchCode):
        pairing.approve(volume, code)
    assert pairing.offer(volume, STRANGER, "eve") not in ("", code)

"""An answer that was shown while it was written ends where people look: below what was said since, or posted anew, with
a notification, when it is old; once, whatever dies meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent_session.domain.outbound import WORDS
from agent_session.transcript.volume import Volume
from channels.slack.posting_calls import NotDone, Unsure
from tests.channels.slack_out_support import LOST, MESSAGE, TURN, Talk, Workplace, reply
from tests.fakes.slack import FakeSlack

SHOWN = "Hello *world*, this is the answer."
PATIENT_S = 7.0  #: for what comes at once on a quiet machine


@pytest.fixture
async def place(slack: FakeSlack, volume: Volume, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workplace]:
    monkeypatch.setattr("channels.slack.streaming_message.BEGIN_AFTER_S", 0.05)
    monkeypatch.setattr("channels.slack.streaming_message.EVERY_S", 0.05)
    monkeypatch.setattr("channels.slack.posting_shown.ASK_S", PATIENT_S)
    made = Workplace(slack, volume)
    async with made.live():
        yield made


@pytest.fixture(params=["direct", "flat", "channel"])
async def talk(place: Workplace, request: pytest.FixtureRequest) -> Talk:
    """Where Slack streams, and where the message is edited: in no thread, and in one."""
    if request.param == "direct":
        return Talk(place, place.slack.dm("U1"), place.slack.says("U1", "hi"))
    if request.param == "flat":
        return Talk(place, place.slack.dm("U1"), "")
    return Talk(place, "C1", place.slack.mentions("U1", "hi"))


async def begun(talk: Talk) -> None:
    """An answer of which the first words stand there."""
    async with talk.place.streamer() as streamer:
        streamer.expect("main", talk.where, MESSAGE)
        talk.place.begin()
        talk.place.write("Let me look.")
        await talk.shown("Let me look.")


async def said_meanwhile(talk: Talk, words: str = "for a tool") -> None:
    await talk.place.poster().post(reply(words, talk.where, f"{TURN}-1-0", kind=WORDS))


async def test_an_answer_ends_below_what_was_said_since_it_began(talk: Talk) -> None:
    await begun(talk)
    await said_meanwhile(talk)
    for _ in range(2):
        await talk.deliver()
    assert talk.texts == ["for a tool", SHOWN]


async def test_an_answer_that_nothing_stands_below_stays_where_it_is(talk: Talk) -> None:
    await said_meanwhile(talk, "before")
    await begun(talk)
    ts = talk.messages[-1]["ts"]
    talk.place.slack.says("U1", "people may talk", channel=talk.channel, thread=talk.thread)
    await talk.deliver()
    assert talk.texts == ["before", SHOWN]
    assert talk.messages[-1]["ts"] == ts


async def test_an_old_message_becomes_a_new_one_since_an_edit_notifies_nobody(
    talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begun(talk)
    ts = talk.messages[0]["ts"]
    monkeypatch.setattr("channels.slack.posting_shown.OLD_S", 0.0)
    await talk.deliver()
    assert talk.texts == [SHOWN]
    assert talk.messages[0]["ts"] > ts
    assert talk.messages[0]["metadata"]["event_payload"]["reply"] == TURN


@pytest.mark.parametrize("at", ["chat.delete", "chat.postMessage"])
@pytest.mark.parametrize("arrives", [True, False])
async def test_a_crash_while_it_is_posted_anew_leaves_one_message(talk: Talk, at: str, arrives: bool) -> None:
    await begun(talk)
    await said_meanwhile(talk)
    fault: dict[str, Any] = {"drop": True, "after": True} if arrives else LOST
    talk.place.slack.fault(at, **fault)
    with pytest.raises(Unsure):
        await talk.deliver()
    await talk.deliver()
    assert talk.texts == ["for a tool", SHOWN]


async def test_an_answer_that_was_to_be_taken_away_does_not_become_the_reply(talk: Talk) -> None:
    """The request to take it away may still be under way, and would take the reply."""
    await begun(talk)
    await said_meanwhile(talk)
    talk.place.slack.fault("chat.delete", **LOST)
    with pytest.raises(Unsure):
        await talk.deliver()
    talk.place.slack.limit("conversations.replies" if talk.thread else "conversations.history", retry_after=30)
    await talk.deliver()
    assert talk.texts == ["for a tool", SHOWN]


async def test_a_process_that_dies_between_taking_away_and_posting_leaves_one_message(talk: Talk) -> None:
    await begun(talk)
    await said_meanwhile(talk)
    talk.place.slack.fault("chat.delete", after=True, until=asyncio.Event())
    dying = asyncio.create_task(talk.deliver())
    await talk.place.slack.until(lambda: talk.texts == ["for a tool"])
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    await talk.deliver()
    assert talk.texts == ["for a tool", SHOWN]


async def test_a_message_that_slack_does_not_take_away_is_finished_where_it_is(talk: Talk) -> None:
    await begun(talk)
    await said_meanwhile(talk)
    talk.place.slack.fault("chat.delete", "compliance_exports_prevent_deletion")
    await talk.deliver()
    assert talk.texts == [SHOWN, "for a tool"]


async def test_a_limit_on_taking_away_is_waited_for(talk: Talk) -> None:
    await begun(talk)
    await said_meanwhile(talk)
    talk.place.slack.limit("chat.delete", retry_after=30)
    with pytest.raises(NotDone):
        await talk.deliver()
    await talk.deliver()
    assert talk.texts == ["for a tool", SHOWN]


async def test_what_was_taken_away_is_not_taken_away_again(talk: Talk) -> None:
    """A limit on taking away would hold up a reply that has nothing left to take away."""
    await begun(talk)
    await said_meanwhile(talk)
    talk.place.slack.limit("chat.postMessage", retry_after=30)
    with pytest.raises(NotDone):
        await talk.deliver()
    talk.place.slack.limit("chat.delete", retry_after=30)
    await talk.deliver()
    assert talk.texts == ["for a tool", SHOWN]
    assert len(talk.place.slack.calls("chat.delete")) == 1


async def test_what_a_person_took_away_is_not_finished_again(talk: Talk) -> None:
    await begun(talk)
    talk.place.slack.workspace.remove(talk.channel, talk.messages[0]["ts"])
    talk.place.slack.limit("chat.postMessage", retry_after=30)
    with pytest.raises(NotDone):
        await talk.deliver()
    talk.place.slack.limit("chat.update", retry_after=30)
    await talk.deliver()
    assert talk.texts == [SHOWN]


async def test_nobody_streams_where_an_answer_was_taken_away(talk: Talk) -> None:
    """The reply itself is still to come, and live events are late."""
    async with talk.place.streamer() as streamer:
        streamer.expect("main", talk.where, MESSAGE)
        talk.place.begin()
        talk.place.write("Let me look.")
        await talk.shown("Let me look.")
        await said_meanwhile(talk)
        talk.place.slack.limit("chat.postMessage", retry_after=30)
        with pytest.raises(NotDone):
            await talk.deliver()
        talk.place.write(" late")
        await asyncio.sleep(0.3)  # longer than an edit would take: nothing may happen
        assert talk.texts == ["for a tool"]
        await talk.deliver()
    assert talk.texts == ["for a tool", SHOWN]


async def test_a_message_that_slack_keeps_is_not_taken_for_the_reply(talk: Talk) -> None:
    """It has the reply's metadata, and can neither be edited nor taken away."""
    await begun(talk)
    talk.place.slack.fault("chat.update", "edit_window_closed", times=2)
    talk.place.slack.fault("chat.delete", "cant_delete_message", times=2)
    talk.place.slack.fault("chat.postMessage", **LOST)
    with pytest.raises(Unsure):
        await talk.deliver()
    await talk.deliver()
    assert talk.texts == ["Let me look.", SHOWN]


async def test_when_slack_does_not_tell_what_stands_below_the_answer_is_posted_anew(talk: Talk) -> None:
    await begun(talk)
    await said_meanwhile(talk)
    talk.place.slack.fault("conversations.replies" if talk.thread else "conversations.history", "internal_error")
    await talk.deliver()
    assert talk.texts == ["for a tool", SHOWN]


async def test_a_limit_on_looking_what_stands_below_does_not_hold_the_answer_up(talk: Talk) -> None:
    """It is finished where it stands: the attempt is needed for the answer itself."""
    await begun(talk)
    await said_meanwhile(talk)
    method = "conversations.replies" if talk.thread else "conversations.history"
    talk.place.slack.limit(method, retry_after=int(PATIENT_S) + 2)
    await talk.deliver()
    assert talk.texts == [SHOWN, "for a tool"]


async def test_the_parts_of_a_long_answer_follow_the_one_that_was_posted_anew(talk: Talk) -> None:
    long = "\n\n".join(f"Paragraph {number}. " + "Some words of it. " * 59 for number in range(6))
    await begun(talk)
    await said_meanwhile(talk)
    await talk.deliver(long)
    assert talk.texts[0] == "for a tool"
    assert [text.split(".")[0] for text in talk.texts[1:]] == ["Paragraph 0", "Paragraph 3"]

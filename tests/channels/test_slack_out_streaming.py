"""Answers shown while they are written: one message that becomes the reply, whatever dies meanwhile."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent_session.live.events import APPROVAL, DELTA, RETRY, STEP, TOOL_FINISHED, TOOL_STARTED, TURN_STARTED
from agent_session.transcript.volume import Volume
from channels.slack.posting_calls import NotDone, Unsure
from tests.channels.slack_out_support import FINAL, LOST, MESSAGE, TURN, Talk, Workplace, reply
from tests.fakes.slack import FakeSlack

LONG = "\n\n".join(f"Paragraph {number}. " + "Some words of it. " * 59 + "The end." for number in range(12))
SHOWN = "Hello *world*, this is the answer."
PATIENT_S = 7.0  #: for what comes at once on a quiet machine


@pytest.fixture
async def place(slack: FakeSlack, volume: Volume, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workplace]:
    monkeypatch.setattr("channels.slack.streaming_message.BEGIN_AFTER_S", 0.05)
    monkeypatch.setattr("channels.slack.streaming_message.EVERY_S", 0.05)
    monkeypatch.setattr("channels.slack.streaming_message.CALL_S", 1.0)
    monkeypatch.setattr("channels.slack.posting_shown.ASK_S", PATIENT_S)
    made = Workplace(slack, volume)
    async with made.live():
        yield made


@pytest.fixture
async def direct(place: Workplace) -> Talk:
    """A thread of direct messages: there Slack streams."""
    channel = place.slack.dm("U1")
    return Talk(place, channel, place.slack.says("U1", "hi"))


@pytest.fixture
async def channel(place: Workplace) -> Talk:
    return Talk(place, "C1", place.slack.mentions("U1", "hi"))


async def test_in_direct_messages_the_stream_becomes_the_reply(place: Workplace, direct: Talk) -> None:
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        place.write("Hello **wor")
        await direct.shown("Hello")
        place.write("ld**, this is")
        await direct.shown("this is")
        place.end(FINAL)
        await direct.deliver()
    assert direct.texts == [FINAL], "Slack reads streamed words as Markdown"
    assert direct.messages[0]["streaming_state"] == "completed"
    assert direct.messages[0]["metadata"]["event_payload"]["reply"] == TURN
    assert place.slack.calls("chat.postMessage") == place.slack.calls("chat.update") == []
    await direct.deliver()
    assert direct.texts == [FINAL]


async def test_in_a_channel_the_message_is_edited_so_that_all_see_it_grow(place: Workplace, channel: Talk) -> None:
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, MESSAGE)
        place.begin()
        place.write("Hello **wor")
        await channel.shown("Hello")
        place.write("ld**, this")
        await channel.shown("Hello *world*, this")
        place.end(FINAL)
        await channel.deliver()
    assert channel.texts == [SHOWN]
    assert place.slack.calls("chat.startStream") == []
    assert len(place.slack.calls("chat.postMessage")) == 1
    assert all(call.given["parse"] == "none" for call in place.slack.calls("chat.update"))


async def test_without_the_streaming_api_the_message_is_edited(place: Workplace, direct: Talk) -> None:
    place.slack.switch_off("chat.startStream")
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        place.write("Hello **world**, this")
        await direct.shown("Hello *world*")
        await direct.deliver()
    assert direct.texts == [SHOWN]


async def test_a_streamer_that_dies_leaves_a_message_that_the_reply_finishes(place: Workplace, direct: Talk) -> None:
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        place.write("Hello **wor")
        await direct.shown("Hello")
    await direct.deliver()
    assert direct.texts == [FINAL]
    assert direct.messages[0]["streaming_state"] == "completed"


@pytest.mark.parametrize("method", ["chat.startStream", "chat.postMessage"])
async def test_a_streamer_that_dies_before_it_knows_its_message_leaves_one(
    place: Workplace, direct: Talk, channel: Talk, method: str
) -> None:
    talk = direct if method == "chat.startStream" else channel
    place.slack.fault(method, after=True, until=asyncio.Event())
    async with place.streamer() as streamer:
        streamer.expect("main", talk.where, MESSAGE)
        place.begin()
        place.write("Hello **world**, this")
        await talk.shown("Hello")
    await talk.deliver()
    assert talk.texts == [SHOWN]


async def test_a_streamer_that_dies_where_the_thread_was_deleted_leaves_one_message(
    place: Workplace, channel: Talk
) -> None:
    """Its message stands in the conversation itself, and is finished there."""
    place.slack.deletes(channel.thread)
    place.slack.fault("chat.postMessage", after=True, until=asyncio.Event())
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, MESSAGE)
        place.begin()
        place.write("Hello **world**, this")
        await place.slack.until(lambda: place.slack.texts("C1"))
    await channel.deliver()
    assert place.slack.texts("C1") == [SHOWN]
    assert len(place.slack.calls("chat.postMessage")) == 1


async def test_a_stream_that_did_not_begin_is_replaced_by_a_message(place: Workplace, direct: Talk) -> None:
    place.slack.fault("chat.startStream", **LOST)
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        place.write("Hello **world**, this")
        await place.slack.until(lambda: place.slack.calls("chat.startStream"))
        await direct.deliver()
    assert direct.texts == [SHOWN]


async def test_another_message_that_begins_alike_is_not_taken_for_a_lost_stream(place: Workplace, direct: Talk) -> None:
    await place.poster().post(reply(FINAL, direct.where, "t-00000000000000aa"))
    place.slack.fault("chat.startStream", **LOST)
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        place.write("Hello **world**, this")
        await place.slack.until(lambda: place.slack.calls("chat.startStream"))
        await direct.deliver()
    assert direct.texts == [SHOWN, SHOWN]


async def test_a_stream_that_begins_late_is_waited_for(place: Workplace, direct: Talk) -> None:
    """Its process has died, and the request is still on its way."""
    arrives = asyncio.Event()
    place.slack.fault("chat.startStream", until=arrives)
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        place.write("Hello **world**, this")
        await place.slack.until(lambda: place.slack.calls("chat.startStream"))
    delivered = asyncio.create_task(place.poster(settle_s=2.5).post(reply(FINAL, direct.where)))
    await asyncio.sleep(0.3)  # longer than a post would take: nothing may happen
    arrives.set()
    await delivered
    await asyncio.sleep(0.3)
    assert direct.texts == [SHOWN]


async def test_of_two_replicas_one_shows_the_answer(place: Workplace, channel: Talk) -> None:
    async with place.streamer() as one, place.streamer() as other:
        for streamer in (one, other):
            streamer.expect("main", channel.where, MESSAGE)
        place.begin()
        for number in range(5):
            place.write(f"word{number} ")
            await channel.shown(f"word{number}")
        assert len(channel.texts) == 1
        place.end("Done.")
        await channel.deliver("Done.")
    assert channel.texts == ["Done."]
    assert len(place.slack.calls("chat.postMessage")) == 1


async def test_what_comes_after_the_final_words_changes_nothing(place: Workplace, channel: Talk) -> None:
    """Live events may be late."""
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, MESSAGE)
        place.begin()
        place.write("Hello")
        await channel.shown("Hello")
        await channel.deliver()
        edits = len(place.slack.calls("chat.update"))
        for number in range(3):
            place.write(f" late{number}")
            await asyncio.sleep(0.2)  # longer than an edit would take: nothing may happen
    assert channel.texts == [SHOWN]
    assert len(place.slack.calls("chat.update")) == edits


async def test_nobody_streams_over_final_words_while_the_rest_of_the_answer_waits(
    place: Workplace, channel: Talk
) -> None:
    """The first part is finished, Slack fails at the second, and live events are late."""
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, MESSAGE)
        place.begin()
        place.write("Hello")
        await channel.shown("Hello")
        place.slack.fault("chat.postMessage", **LOST)
        with pytest.raises(Unsure):
            await channel.deliver(LONG)
        place.write(" late")
        await asyncio.sleep(0.3)  # longer than an edit would take: nothing may happen
        await channel.deliver(LONG)
    assert "\n\n".join(text.strip() for text in channel.texts) == LONG


async def test_words_of_an_attempt_that_was_thrown_away_do_not_stay(place: Workplace, direct: Talk) -> None:
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        place.write("Nonsense")
        await direct.shown("Nonsense")
        place.tell(RETRY, step=1)
        place.write("Hello, and some other words")
        await asyncio.sleep(0.3)  # longer than it would take to show them: a stream cannot take words back
        assert direct.texts == ["Nonsense"]
        place.end(FINAL)
        await direct.deliver()
    assert direct.texts == [SHOWN]


async def test_words_of_earlier_steps_do_not_stay(place: Workplace, direct: Talk) -> None:
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        place.write("Let me look.")
        await direct.shown("Let me look.")
        place.tell(STEP, step=2)
        place.write("Hello", step=2)
        await direct.shown("Hello")
        place.end(FINAL)
        await direct.deliver()
    assert direct.texts == [SHOWN]


async def test_in_direct_messages_slack_shows_what_is_being_done(place: Workplace, direct: Talk) -> None:
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        statuses = place.slack.workspace.statuses
        await place.slack.until(lambda: statuses)
        for kind, status in ((TOOL_STARTED, "running shell…"), (APPROVAL, "waiting for a decision…")):
            place.tell(kind, tool="shell", call=f"{TURN}-1-0")
            await place.slack.until(lambda status=status: statuses[-1]["status"] == status)
        place.tell(TOOL_FINISHED, tool="shell", call=f"{TURN}-1-0")
        await place.slack.until(lambda: statuses[-1]["status"] == "thinking…")
        place.end(FINAL)
        await place.slack.until(lambda: statuses[-1]["status"] == "")
        await direct.deliver()
    assert direct.texts == [SHOWN]
    assert {one["thread_ts"] for one in statuses} == {direct.thread}


async def test_a_long_answer_streams_its_first_part(place: Workplace, direct: Talk) -> None:
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        for at in range(0, len(LONG), 1_000):
            place.write(LONG[at : at + 1_000])
        await direct.shown("Paragraph 2")
        place.end(LONG)
        await direct.deliver(LONG)
    assert len(direct.texts) > 2
    assert "\n\n".join(text.strip() for text in direct.texts) == LONG


@pytest.mark.parametrize("method", ["chat.stopStream", "chat.update"])
async def test_a_limit_at_the_end_of_a_stream_is_tried_again(place: Workplace, direct: Talk, method: str) -> None:
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        place.write("Not the beginning of it")
        await direct.shown("Not")
        place.slack.limit(method, retry_after=30)
        with pytest.raises(NotDone):
            await direct.deliver()
        await direct.deliver()
    assert direct.texts == [SHOWN]


async def test_the_next_turn_is_shown_although_the_end_of_the_last_one_was_missed(
    place: Workplace, channel: Talk
) -> None:
    other, message = "t-00000000000000aa", "ffffffffffffffff"
    async with place.streamer() as streamer:
        for one in (MESSAGE, message):
            streamer.expect("main", channel.where, one)
        place.begin()
        place.write("Hello")
        await channel.shown("Hello")
        place.tell(TURN_STARTED, turn=other, call=message)
        place.tell(STEP, turn=other, step=1)
        place.tell(DELTA, turn=other, step=1, text="Next")
        await channel.shown("Next")
    assert channel.texts == ["Hello", "Next"]


async def test_streamed_words_ping_nobody(place: Workplace, direct: Talk) -> None:
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        for piece in ("Hi <", "!chan", "nel> and @he", "re and", " <@U2> there"):
            place.write(piece)
            await asyncio.sleep(0.1)  # each piece in an edit of its own
        await direct.shown("there")
        place.end("Hi <!channel> and @here and <@U2> there")
        await direct.deliver("Hi <!channel> and @here and <@U2> there")
    assert len(direct.texts) == 1
    sent = "".join(str(call.given.get("markdown_text", "")) for call in place.slack.calls())
    assert "<!" not in sent
    assert "<@" not in sent
    assert "@here" not in sent


async def test_a_stream_that_slack_has_ended_gets_its_final_words_all_the_same(place: Workplace, direct: Talk) -> None:
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        place.write("Hello")
        await direct.shown("Hello")
        place.slack.workspace.need(direct.channel, direct.messages[0]["ts"])["streaming_state"] = "completed"
        place.write(" more")
        await place.slack.until(lambda: place.slack.calls("chat.appendStream"))
        await direct.deliver()
    assert direct.texts == [SHOWN]


@pytest.mark.parametrize("error", ["message_not_found", "edit_window_closed", "cant_update_message"])
async def test_a_message_that_cannot_be_finished_is_replaced(place: Workplace, channel: Talk, error: str) -> None:
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, MESSAGE)
        place.begin()
        place.write("Hello")
        await channel.shown("Hello")
    if error == "message_not_found":
        place.slack.deletes(channel.messages[0]["ts"])
    else:
        place.slack.fault("chat.update", error)
    await channel.deliver()
    assert channel.texts == [SHOWN]


async def test_what_was_shown_is_not_taken_for_the_reply_that_replaces_it(place: Workplace, channel: Talk) -> None:
    """It carries the same metadata, and can neither be finished nor removed; then the post is lost."""
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, MESSAGE)
        place.begin()
        place.write("Hello")
        await channel.shown("Hello")
    place.slack.fault("chat.update", "edit_window_closed", times=9)
    place.slack.fault("chat.delete", "cant_delete_message", times=9)
    place.slack.fault("chat.postMessage", **LOST)
    with pytest.raises(Unsure):
        await channel.deliver()
    await channel.deliver()
    assert channel.texts == ["Hello", SHOWN]


async def test_rich_text_that_slack_does_not_replace_by_text_is_replaced_by_markdown(
    place: Workplace, channel: Talk
) -> None:
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, MESSAGE)
        place.begin()
        place.write("Hello")
        await channel.shown("Hello")
    place.slack.fault("chat.update", "block_mismatch")
    await channel.deliver()
    assert place.slack.calls("chat.update")[-1].given["markdown_text"] == FINAL


async def test_an_answer_without_words_ends_its_stream(place: Workplace, direct: Talk) -> None:
    """Nothing is delivered then."""
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        place.write("Let me look.")
        await direct.shown("Let me look.")
        place.end("")
        await place.slack.until(lambda: direct.messages[0]["streaming_state"] == "completed")
    assert direct.texts == ["Let me look."]


@pytest.mark.parametrize(
    "method",
    ["chat.postMessage", "chat.update", "assistant.threads.setStatus", "chat.startStream", "chat.appendStream"],
)
async def test_when_showing_fails_the_reply_is_right_all_the_same(place: Workplace, direct: Talk, method: str) -> None:
    place.slack.fault(method, "not_allowed_token_type", times=3)
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        place.write("Hello")
        await asyncio.sleep(0.3)
        place.end(FINAL)
        place.slack.web._faults.clear()
        await direct.deliver()
    assert [text.replace("**", "*") for text in direct.texts] == [SHOWN]


async def test_an_answer_elsewhere_is_not_shown(place: Workplace, channel: Talk) -> None:
    """Only messages that came in through this process are expected; a turn of another one is nobody's business."""
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, "ffffffffffffffff")
        streamer.expect("main", "no place", MESSAGE)
        place.begin()
        place.write("Hello")
        place.end("Hello")
        await asyncio.sleep(0.3)  # longer than it would take: nothing may happen
    assert channel.texts == []


async def test_who_comes_in_the_middle_of_a_turn_shows_what_there_is(place: Workplace, channel: Talk) -> None:
    place.begin()
    place.write("Hello from ")
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, MESSAGE)
        await channel.shown("Hello from")
        place.write("the middle")
        await channel.shown("Hello from the middle")
        await channel.deliver()
    assert channel.texts == [SHOWN]

"""Answers while they are written, for long and among many: streams that Slack ends, statuses that it takes away, and
what stays behind of a turn without words."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent_session.live.events import STEP, TOOL_STARTED
from agent_session.transcript.volume import Volume
from tests.channels.slack_out_support import MESSAGE, TURN, Talk, Workplace
from tests.fakes.slack import FakeSlack

SHOWN = "Hello *world*, this is the answer."


@pytest.fixture
async def place(slack: FakeSlack, volume: Volume, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workplace]:
    monkeypatch.setattr("channels.slack.streaming_message.BEGIN_AFTER_S", 0.05)
    monkeypatch.setattr("channels.slack.streaming_message.EVERY_S", 0.05)
    made = Workplace(slack, volume)
    async with made.live():
        yield made


@pytest.fixture
async def direct(place: Workplace) -> Talk:
    """A thread of direct messages: there Slack streams."""
    return Talk(place, place.slack.dm("U1"), place.slack.says("U1", "hi"))


@pytest.fixture
async def channel(place: Workplace) -> Talk:
    return Talk(place, "C1", place.slack.mentions("U1", "hi"))


def run_a_tool(place: Workplace) -> None:
    place.tell(TOOL_STARTED, tool="shell", call=f"{TURN}-1-0")


async def told(place: Workplace, status: str) -> None:
    await place.slack.until(lambda: status in [one["status"] for one in place.slack.workspace.statuses])


async def test_a_message_begins_with_words_and_until_then_slack_shows_what_is_being_done(
    place: Workplace, channel: Talk
) -> None:
    """A message whose words come by an edit notifies nobody."""
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, MESSAGE)
        place.begin()
        run_a_tool(place)
        await told(place, "running shell…")
        assert channel.texts == []
        place.write("Hello")
        await channel.shown("Hello")
    (post,) = place.slack.calls("chat.postMessage")
    assert post.given["text"] == "Hello", "what is being done stands in Slack's status"
    assert {one["thread_ts"] for one in place.slack.workspace.statuses} == {channel.thread}


async def test_where_slack_shows_no_status_the_message_says_what_is_being_done(place: Workplace, channel: Talk) -> None:
    place.slack.switch_off("assistant.threads.setStatus")
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, MESSAGE)
        place.begin()
        run_a_tool(place)
        await place.slack.until(lambda: place.slack.calls("assistant.threads.setStatus"))
        await asyncio.sleep(0.3)  # longer than a message would take: nothing may happen without words
        assert channel.texts == []
        place.write("Hello")
        await channel.shown("Hello\n_running shell…_")
        assert channel.texts == ["Hello\n_running shell…_"]
        await channel.deliver()
    assert channel.texts == [SHOWN]


async def test_a_status_is_sent_again_before_slack_takes_it_away(
    place: Workplace, direct: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("channels.slack.streaming_message.STATUS_S", 0.05)
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        run_a_tool(place)
        said = place.slack.workspace.statuses
        await place.slack.until(lambda: [one["status"] for one in said].count("running shell…") >= 3)
        place.end("Done.")
        await place.slack.until(lambda: said[-1]["status"] == "")
    assert direct.texts == []


async def test_a_limit_on_statuses_delays_them(place: Workplace, direct: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channels.slack.streaming_message.LIMITED_S", 0.05)
    place.slack.limit("assistant.threads.setStatus", retry_after=1)
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        await told(place, "thinking…")


@pytest.mark.parametrize("rich", [False, True])
async def test_a_stream_that_slack_has_ended_goes_on_by_edits(place: Workplace, direct: Talk, rich: bool) -> None:
    """Slack ends a stream after some five minutes; of one that it keeps as rich text it takes Markdown only."""
    async with place.streamer() as streamer:
        streamer.expect("main", direct.where, MESSAGE)
        place.begin()
        place.write("Hello **wor")
        await direct.shown("Hello")
        place.slack.workspace.need(direct.channel, direct.messages[0]["ts"])["streaming_state"] = "completed"
        if rich:
            place.slack.fault("chat.update", "block_mismatch")
        place.write("ld**, this")
        await direct.shown("**, this" if rich else "Hello *world*, this")
        place.write(" is the")
        await direct.shown("this is the")
        assert len(place.slack.calls("chat.appendStream")) == 1
        await direct.deliver()
    assert direct.texts == [SHOWN]


async def test_a_turn_without_words_leaves_no_status_behind(place: Workplace, channel: Talk) -> None:
    """Nothing is delivered then."""
    place.slack.switch_off("assistant.threads.setStatus")
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, MESSAGE)
        place.begin()
        place.write("Let me look.")
        run_a_tool(place)
        await channel.shown("_running shell…_")
        place.end("")
        await place.slack.until(lambda: channel.texts == ["Let me look."])


async def test_a_message_of_which_nothing_is_left_but_a_status_goes(place: Workplace, channel: Talk) -> None:
    place.slack.switch_off("assistant.threads.setStatus")
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, MESSAGE)
        place.begin()
        place.write("Let me look.")
        await channel.shown("Let me look.")
        place.tell(STEP, step=2)
        place.write("\n", step=2)
        run_a_tool(place)
        await place.slack.until(lambda: channel.texts == ["_running shell…_"])
        place.end("")
        await place.slack.until(lambda: channel.texts == [])
        await channel.deliver()
    assert channel.texts == [SHOWN], "a delivery that comes all the same finds nothing to finish"


async def test_the_end_of_a_message_without_words_waits_for_a_limit(place: Workplace, channel: Talk) -> None:
    place.slack.switch_off("assistant.threads.setStatus")
    async with place.streamer() as streamer:
        streamer.expect("main", channel.where, MESSAGE)
        place.begin()
        place.write("Let me look.")
        run_a_tool(place)
        await channel.shown("_running shell…_")
        place.slack.limit("chat.update", retry_after=1)
        place.end("")
        await place.slack.until(lambda: channel.texts == ["Let me look."])

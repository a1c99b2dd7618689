"""Where a message belongs in Slack: threads of direct messages, their Stop, groups, and mentions with files."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.channels.slack_in_support import FRIEND, OWNER, STRANGER, Slack, made
from tests.channels.test_slack_out_whole import speaking
from tests.fakes.slack import FakeSlack
from tests.support import fresh_key


@pytest.fixture
async def slack(fake: FakeSlack, make_service: Callable[..., Any]) -> AsyncIterator[Slack]:
    async with (await made(fake, make_service)).up() as running:
        yield running


async def test_each_direct_message_is_answered_in_its_thread_and_all_are_one_session(slack: Slack) -> None:
    dm = slack.fake.dm(OWNER)
    first, second = slack.fake.says(OWNER, "remember blue"), slack.fake.says(OWNER, "remember red")
    await slack.answers(dm, count=2)
    assert slack.fake.texts(dm, first) == ["I will remember: blue"]
    assert slack.fake.texts(dm, second) == ["I will remember: red"]
    assert [one["ts"] for one in slack.fake.messages(dm)] == [first, second], "nothing of the app's beside them"
    assert slack.service.said(slack.main) == ["remember blue", "remember red"]


async def test_an_edit_of_a_direct_message_is_answered_in_its_thread(slack: Slack) -> None:
    dm = slack.fake.dm(OWNER)
    first, _ = slack.fake.says(OWNER, "remember blue"), slack.fake.says(OWNER, "remember red")
    await slack.answers(dm, count=2)
    slack.fake.edits(first, "remember green")
    await slack.answers(dm, count=3)
    assert "green" in slack.fake.texts(dm, first)[1]


async def test_with_the_setting_off_direct_messages_are_answered_in_the_conversation(
    fake: FakeSlack, make_service: Callable[..., Any]
) -> None:
    async with (await made(fake, make_service, slack={"direct_threads": False})).up() as slack:
        slack.fake.says(OWNER, "remember blue")
        await slack.answers(slack.fake.dm(OWNER))
        assert [one["text"] for one in slack.fake.messages(slack.fake.dm(OWNER))][1:] == ["I will remember: blue"]


async def test_an_answer_to_a_plain_direct_message_is_streamed_by_slack_with_a_status(
    fake: FakeSlack, make_service: Callable[..., Any]
) -> None:
    slack = await made(fake, make_service)
    async with speaking(slack) as speaker, slack.replica():
        await slack.connected()
        ts = fake.says(OWNER, "tell me a story")
        await fake.until(lambda: "Once upon" in "".join(fake.texts(fake.dm(OWNER), ts)))
        assert fake.calls("chat.startStream")
        assert {one["thread_ts"] for one in fake.workspace.statuses} == {ts}
        speaker.on.set()
        await slack.service.until(slack.main, lambda status: status.deliveries == 0 and status.state == "idle")
    (text,) = fake.texts(fake.dm(OWNER), ts)
    assert "there was an end." in text


async def test_slacks_stop_stops_the_turn_whose_answer_is_being_written(
    fake: FakeSlack, make_service: Callable[..., Any]
) -> None:
    slack = await made(fake, make_service)
    async with speaking(slack), slack.replica():
        await slack.connected()
        dm, ts = fake.dm(OWNER), fake.says(OWNER, "tell me a story")
        await fake.until(lambda: "Once upon" in "".join(fake.texts(dm, ts)))
        pressed = fake.stops(OWNER, channel=dm, thread=ts)
        await fake.until(pressed.acked.is_set)
        await slack.service.until(slack.main, lambda status: status.deliveries == 0 and status.state == "idle")
        assert any(text.startswith("Stopping turn") for text in fake.texts(dm, ts))
        fake.events.tell(pressed.kind, pressed.payload)
        await slack.settled()
    (line,) = [line for line in slack.service.lines(slack.main) if line.get("event") == "ended"]
    assert line["outcome"] == "cancelled"
    assert not [one for one in fake.messages(dm, ts) if one.get("streaming_state") == "in_progress"]


async def test_a_stop_in_a_thread_of_a_channel_is_for_its_session_and_only_of_people_who_are_answered(
    slack: Slack,
) -> None:
    thread = slack.fake.mentions(OWNER, "sleep 30")
    key = slack.thread_key("C1", thread)
    await slack.settled()
    await slack.service.until(key, lambda status: status.state == "running")
    for user, channel in ((STRANGER, "C1"), (OWNER, "C2")):
        refused = slack.fake.stops(user, channel=channel, thread=thread)
        await slack.fake.until(refused.acked.is_set)
    assert (await slack.service.client.status(key)).state == "running"
    slack.fake.stops(FRIEND, channel="C1", thread=thread)
    await slack.service.until(key, lambda status: status.state == "idle")
    nowhere = slack.fake.stops(OWNER, channel="C1", thread="1.000001")
    await slack.fake.until(nowhere.acked.is_set)
    assert await slack.is_untouched(slack.thread_key("C1", "1.000001"))


@pytest.mark.parametrize("events", [("message", "app_mention"), ("app_mention", "message")])
async def test_a_group_of_people_with_the_app_is_a_place_whichever_event_comes_first(
    fake: FakeSlack, make_service: Callable[..., Any], events: tuple[str, ...]
) -> None:
    name = fresh_key("group")
    routes = {"group": f"{name}/{{channel}}", "thread": f"{name}-not/{{thread}}"}
    fake.workspace.channel("G1", "mpdm-ann--bob--agent-1")
    fake.workspace.channels["G1"]["is_mpim"] = True
    fake.mention_events = events
    given = {"routes": routes, "allowed_channels": ["C1", "G1"]}
    async with (await made(fake, make_service, slack=given)).up() as slack:
        fake.says(OWNER, "among ourselves", channel="G1")
        thread = fake.mentions(FRIEND, "remember blue", channel="G1")
        assert await slack.answers("G1", thread) == ["I will remember: blue"]
        await slack.settled()
        fake.slash(OWNER, "/agent", "status", channel="G1")
        assert "idle" in (await slack.answers("G1"))[0]
        assert slack.service.said(f"{name}/G1") == ["remember blue"]


@pytest.mark.parametrize("events", [("app_mention", "message"), ("app_mention",)])
async def test_a_file_that_comes_with_a_mention_is_there_whichever_event_comes_first(
    slack: Slack, events: tuple[str, ...]
) -> None:
    """Slack leaves files out of `app_mention`, and the other event may be late, or of no kind that we hear."""
    slack.fake.mention_events = events
    first = slack.fake.mentions(OWNER, "remember this", files=[slack.fake.file("a.txt", b"top")])
    await slack.answers("C1", first)
    slack.fake.mentions(OWNER, "remember that", thread=first, files=[slack.fake.file("b.txt", b"below")])
    await slack.answers("C1", first, 2)
    await slack.settled()
    key = slack.thread_key("C1", first)
    found = (slack.service.volume.path_of(key) / "workspace" / "attachments").iterdir()
    assert sorted(path.read_bytes() for path in found) == [b"below", b"top"]
    assert [said.splitlines()[0] for said in slack.service.said(key)] == ["remember this", "remember that"]


async def test_a_mention_that_slack_cannot_show_yet_is_taken_with_the_next_delivery(slack: Slack) -> None:
    slack.fake.events.redeliver_after_s = 0.3
    slack.fake.mention_events = ("app_mention",)
    slack.fake.limit("conversations.replies")
    thread = slack.fake.mentions(OWNER, "remember this", files=[slack.fake.file("a.txt", b"x")])
    await slack.answers("C1", thread)
    assert slack.fake.events.envelopes[0].sent == 2
    assert list((slack.service.volume.path_of(slack.thread_key("C1", thread)) / "workspace").rglob("*a.txt"))


async def test_where_each_direct_message_has_a_session_all_that_is_told_of_it_belongs_to_that(
    fake: FakeSlack, make_service: Callable[..., Any]
) -> None:
    """Once it has an answer below it, an edit says that it stands in a thread, which it begins itself."""
    name = fresh_key("each")
    async with (await made(fake, make_service, slack={"routes": {"dm": f"{name}/{{thread}}"}})).up() as slack:
        dm = fake.dm(OWNER)
        first = fake.says(OWNER, "remember blue")
        await slack.answers(dm, first)
        fake.edits(first, "remember green")
        await slack.answers(dm, first, 2)
        fake.says(OWNER, "! remember red")
        await slack.answers(dm, first, 3)
        said = ["remember blue", "(edited) remember green", "remember red"]
        assert slack.service.said(f"{name}/{first}") == said
        second = fake.says(OWNER, "sleep 30")
        await slack.settled()
        await slack.service.until(f"{name}/{second}", lambda status: status.state == "running")
        fake.stops(OWNER, channel=dm, thread=second)
        await slack.service.until(f"{name}/{second}", lambda status: status.state == "idle")


async def test_while_the_app_cannot_tell_groups_all_replicas_take_them_for_channels(
    fake: FakeSlack, make_service: Callable[..., Any]
) -> None:
    """One replica is told the message, which says that it is a group's, the other one the mention, which does not."""
    name = fresh_key("group")
    routes = {"group": f"{name}/{{channel}}", "thread": f"{name}/thread/{{thread}}"}
    fake.workspace.channel("G1", "mpdm-ann--bob--agent-1")
    fake.workspace.channels["G1"]["is_mpim"] = True
    fake.web.scopes.discard("mpim:read")
    given = {"routes": routes, "allowed_channels": ["C1", "G1"]}
    async with (await made(fake, make_service, slack=given)).up(replicas=2) as slack:
        first = fake.mentions(FRIEND, "remember blue", channel="G1")
        await slack.settled()
        assert await slack.answers("G1", first) == ["I will remember: blue"]
        assert slack.service.said(f"{name}/thread/{first}") == ["remember blue"]
        assert await slack.is_untouched(f"{name}/G1")
        fake.web.scopes.add("mpim:read")
        second = fake.mentions(FRIEND, "remember red", channel="G1")
        await slack.settled()
        assert await slack.answers("G1", second) == ["I will remember: red"]
        await slack.service.until(f"{name}/G1", lambda status: status.deliveries == 0 and status.state == "idle")
        assert slack.service.said(f"{name}/G1") == ["remember red"]
        assert await slack.is_untouched(f"{name}/thread/{second}")

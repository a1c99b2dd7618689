"""Slack's way in: what people say reaches the right session, and the answer comes to its place."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agent_session.domain.ids import workflow_id
from agent_session.domain.outbound import Outbound
from channels import load_channel
from channels.slack.channel import SlackChannel
from tests.channels.slack_in_support import FRIEND, OWNER, Slack, made
from tests.contracts.channel import check_channel
from tests.fakes.slack import BOT_TOKEN, BOT_USER, TEAM, FakeSlack, fake_slack
from tests.support import decoded


@pytest.fixture
async def slack(fake: FakeSlack, make_service: Callable[..., Any]) -> AsyncIterator[Slack]:
    async with (await made(fake, make_service)).up() as running:
        yield running


async def test_an_owners_direct_message_belongs_to_the_main_session_and_is_answered_there(slack: Slack) -> None:
    dm = slack.fake.dm(OWNER)
    slack.fake.says(OWNER, "remember blue")
    assert await slack.answers(dm) == ["I will remember: blue"]
    (line,) = [line for line in slack.service.lines(slack.main) if line["role"] == "user"]
    assert (line["content"], line["sender"]) == ("remember blue", "ann")


async def test_each_thread_of_a_channel_is_a_session_of_its_own(slack: Slack) -> None:
    first = slack.fake.mentions(OWNER, "remember blue")
    second = slack.fake.mentions(FRIEND, "remember red")
    assert await slack.answers("C1", first) == ["I will remember: blue"]
    assert await slack.answers("C1", second) == ["I will remember: red"]
    slack.fake.mentions(FRIEND, "remember green", thread=first)
    assert (await slack.answers("C1", first, 2))[1] == "I will remember: green"
    assert slack.service.said(slack.thread_key("C1", first)) == ["remember blue", "remember green"]
    assert slack.fake.texts("C1") == [], "answers stand in the threads"


async def test_in_a_channel_only_mentions_are_answered_in_threads_too(slack: Slack) -> None:
    slack.fake.says(OWNER, "just talking", channel="C1")
    thread = slack.fake.mentions(OWNER, "remember this")
    slack.fake.says(FRIEND, "talking among ourselves", channel="C1", thread=thread)
    elsewhere = slack.fake.mentions(OWNER, "not allowed here", channel="C2")
    await slack.answers("C1", thread)
    await slack.settled()
    assert slack.service.said(slack.thread_key("C1", thread)) == ["remember this"]
    assert slack.fake.texts("C1") == []
    assert await slack.is_untouched(slack.thread_key("C2", elsewhere))
    assert not slack.fake.calls("chat.postEphemeral")


async def test_a_thread_in_direct_messages_is_answered_in_that_thread(slack: Slack) -> None:
    dm = slack.fake.dm(OWNER)
    top = slack.fake.says(OWNER, "remember one")
    await slack.answers(dm)
    slack.fake.says(OWNER, "remember two", thread=top)
    assert await slack.answers(dm, top, 2) == ["I will remember: one", "I will remember: two"]
    assert slack.service.said(slack.main) == ["remember one", "remember two"]


async def test_markup_becomes_plain_words_and_names_are_looked_up(slack: Slack) -> None:
    slack.fake.says(OWNER, "remember <@U2> &amp; <https://example.com/a|the page> in <#C1|general> &lt;b&gt;")
    (text,) = await slack.answers(slack.fake.dm(OWNER))
    assert "@bob & the page (https://example.com/a) in #general <b>" in slack.service.said(slack.main)[0]
    assert text.startswith("I will remember: @bob")


async def test_what_bots_say_is_not_answered_not_even_our_own_words(slack: Slack) -> None:
    dm = slack.fake.dm(OWNER)
    slack.fake.says(OWNER, "I am a bot", bot_id="B9")
    slack.fake.says(OWNER, "joined", subtype="channel_join")
    slack.fake.says(OWNER, "remember a person")
    assert await slack.answers(dm) == ["I will remember: a person"]
    await slack.settled()
    own = [one for one in slack.fake.events.envelopes if one.payload["event"].get("user") == BOT_USER]
    assert own, "the fake tells the app of its own messages, as Slack does"
    assert slack.service.said(slack.main) == ["remember a person"]


async def test_a_message_that_begins_with_an_exclamation_mark_joins_the_running_turn(slack: Slack) -> None:
    dm, key = slack.fake.dm(OWNER), slack.main
    slack.fake.says(OWNER, "tools run sleep 1; run echo done")
    await slack.fake.until(lambda: any(line["role"] == "assistant" for line in slack.service.lines(key)))
    slack.fake.says(OWNER, "! remember blue")
    (text,) = await slack.answers(dm)
    assert "I will remember: blue" in text
    turns = {line["turn"] for line in slack.service.lines(key)}
    assert len(turns) == 1


async def test_messages_of_one_person_keep_their_order(slack: Slack) -> None:
    for number in range(8):
        slack.fake.says(OWNER, f"remember {number}")
    await slack.settled()
    await slack.fake.until(lambda: len(slack.service.said(slack.main)) == 8)
    assert slack.service.said(slack.main) == [f"remember {number}" for number in range(8)]


async def test_an_edit_is_a_new_message_that_says_so(slack: Slack) -> None:
    dm = slack.fake.dm(OWNER)
    ts = slack.fake.says(OWNER, "remember blue")
    await slack.answers(dm)
    slack.fake.edits(ts, "remember green")
    await slack.answers(dm, count=2)
    slack.fake.unfurls(ts)
    await slack.settled()
    assert slack.service.said(slack.main) == ["remember blue", "(edited) remember green"]


async def test_an_edit_that_adds_the_mention_is_the_message(slack: Slack) -> None:
    ts = slack.fake.says(OWNER, "remember blue", channel="C1")
    slack.fake.edits(ts, f"<@{BOT_USER}> remember blue")
    assert await slack.answers("C1", ts) == ["I will remember: blue"]


async def test_a_message_that_is_deleted_before_its_answer_is_said_to_be(slack: Slack) -> None:
    dm, key = slack.fake.dm(OWNER), slack.main
    ts = slack.fake.says(OWNER, "run sleep 3")
    await slack.fake.until(lambda: any(line["role"] == "assistant" for line in slack.service.lines(key)))
    slack.fake.deletes(ts)
    await slack.answers(dm)
    said = slack.service.said(key)
    assert said[1:] == ["(deleted) I have deleted my message “run sleep 3”: disregard it."]


async def test_deleting_what_was_answered_says_nothing(slack: Slack) -> None:
    dm = slack.fake.dm(OWNER)
    ts = slack.fake.says(OWNER, "remember blue")
    await slack.answers(dm)
    slack.fake.deletes(ts)
    await slack.settled()
    slack.fake.says(OWNER, "remember red")
    await slack.answers(dm, count=2)
    assert slack.service.said(slack.main) == ["remember blue", "remember red"]


async def test_files_come_in_with_the_token_only_from_slack_itself(slack: Slack) -> None:
    async with fake_slack() as elsewhere:
        good = slack.fake.file("notes.txt", b"all of it")
        evil = slack.fake.file("evil.txt", b"x", url_private_download=f"{elsewhere.url}/files-pri/T0TEAM-F1/evil.txt")
        large = slack.fake.file("large.bin", b"x", size=65 * 2**20)
        slack.fake.says(OWNER, "read attachments/notes.txt", files=[good, evil, large])
        (text,) = await slack.answers(slack.fake.dm(OWNER))
        assert elsewhere.calls() == []
    (said,) = slack.service.said(slack.main)
    assert "'evil.txt' did not arrive: its address is not one of Slack's" in said
    assert "'large.bin' did not arrive: it is larger than 64 MiB" in said
    found = list((slack.service.volume.path_of(slack.main) / "workspace").rglob("*notes.txt"))
    assert [path.read_bytes() for path in found] == [b"all of it"]
    assert text


async def test_as_many_files_as_slack_takes_come_with_one_message(slack: Slack) -> None:
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    files = [slack.fake.file(f"{number} {'a long name' * 12}.docx", b"%d" % number, kind) for number in range(10)]
    slack.fake.says(OWNER, "remember these", files=files)
    await slack.answers(slack.fake.dm(OWNER))
    attached = list((slack.service.volume.path_of(slack.main) / "workspace" / "attachments").iterdir())
    assert sorted(path.read_bytes() for path in attached) == [b"%d" % number for number in range(10)]


async def test_a_file_that_breaks_off_is_fetched_again_with_the_next_delivery(slack: Slack) -> None:
    slack.fake.events.redeliver_after_s = 0.3
    slack.fake.fault("download", status=503)
    slack.fake.says(OWNER, "remember it", files=[slack.fake.file("a.txt", b"whole")])
    await slack.answers(slack.fake.dm(OWNER))
    assert "did not arrive" not in slack.service.said(slack.main)[0]
    assert slack.fake.events.envelopes[0].sent == 2


async def test_slash_commands_are_answered_at_once_while_a_turn_runs(slack: Slack) -> None:
    dm = slack.fake.dm(OWNER)
    slack.fake.says(OWNER, "sleep 30")
    await slack.settled()
    await slack.service.until(slack.main, lambda status: status.state == "running")
    slack.fake.slash(OWNER, "/agent", "status")
    (text,) = await slack.answers(dm)
    assert "running" in text
    slack.fake.slash(OWNER, "/agent", "stop")
    texts = await slack.answers(dm, count=2)
    assert any(text.startswith("Stopping turn") for text in texts)
    await slack.service.until(slack.main, lambda status: status.state == "idle")


async def test_help_and_mistakes_are_shown_to_who_asked_alone(slack: Slack) -> None:
    helped, wrong = slack.fake.slash(OWNER, "/agent"), slack.fake.slash(FRIEND, "/agent", "dance", channel="C1")
    channel = slack.fake.slash(FRIEND, "/agent", "status", channel="C1")
    stranger = slack.fake.slash("U3", "/agent", "status")
    await slack.settled()
    assert helped.answer is not None
    assert "/agent status" in helped.answer["text"]
    assert wrong.answer is not None
    assert "There is no 'dance'" in wrong.answer["text"]
    assert channel.answer is not None
    assert "no session of its own" in channel.answer["text"]
    assert stranger.answer is None
    assert slack.fake.texts("C1") == []


async def test_a_command_in_a_thread_is_said_with_a_mention(slack: Slack) -> None:
    thread = slack.fake.mentions(OWNER, "remember blue")
    await slack.answers("C1", thread)
    slack.fake.mentions(FRIEND, "/status", thread=thread)
    assert "idle" in (await slack.answers("C1", thread, 2))[1]


async def test_the_bot_token_goes_to_slack_in_a_header_and_into_no_history(slack: Slack) -> None:
    slack.fake.says(OWNER, "remember blue")
    await slack.answers(slack.fake.dm(OWNER))
    calls = slack.fake.calls()
    assert all(BOT_TOKEN not in str(call.given) for call in calls)
    assert {call.token for call in calls if call.method != "apps.connections.open"} == {BOT_TOKEN}
    handle = slack.service.temporal.get_workflow_handle(workflow_id(slack.main))
    async for event in handle.fetch_history_events():
        assert BOT_TOKEN not in decoded(event)


async def test_the_channel_keeps_what_every_channel_promises(fake: FakeSlack, make_service: Callable[..., Any]) -> None:
    channel = SlackChannel((await made(fake, make_service)).service.settings)
    dm = fake.dm(OWNER)
    bad = ["", "general", f"{TEAM}/{dm}/x", "../C1"]
    await check_channel(channel, place=f"{TEAM}/{dm}", bad_places=bad, posted=lambda: fake.texts(dm))


async def test_the_probe_sends_and_receives_and_leaves_nothing_behind(slack: Slack) -> None:
    channel = load_channel("slack", slack.service.settings)
    assert await channel.probe() == ""
    assert slack.fake.messages(slack.fake.dm(OWNER)) == []
    methods = {call.method for call in slack.fake.calls()}
    assert {"chat.postMessage", "conversations.history", "chat.delete", "apps.connections.open"} <= methods
    slack.fake.fault("chat.postMessage", error="restricted_action")
    assert await channel.probe() == "Slack refused chat.postMessage: restricted_action"
    slack.fake.revoke(BOT_TOKEN)
    assert "token_revoked" in await channel.probe()


async def test_a_command_in_direct_messages_may_be_said_with_a_mention_too(slack: Slack) -> None:
    """Slack takes a line that begins with `/` for a slash command of its own."""
    slack.fake.says(OWNER, f"<@{BOT_USER}> /status")
    assert "idle" in (await slack.answers(slack.fake.dm(OWNER)))[0]


async def test_a_place_without_its_team_is_posted_to(fake: FakeSlack, make_service: Callable[..., Any]) -> None:
    """As the pages on heartbeats and schedules write it: `slack:C024BE91L`."""
    channel = SlackChannel((await made(fake, make_service)).service.settings)
    thread = fake.says(OWNER, "news?", channel="C1")
    for place in ("C1", f"C1/{thread}"):
        channel.check_place(place)
        await channel.deliver(Outbound(session="main", place=place, reply=f"r-{len(place)}", text="hello"))
    assert fake.texts("C1") == ["hello"] == fake.texts("C1", thread)


async def test_words_that_join_a_turn_go_to_the_thread_of_the_message_before(slack: Slack) -> None:
    """In direct messages each message begins a thread, and a turn is joined from its own place alone."""
    dm = slack.fake.dm(OWNER)
    ts = slack.fake.says(OWNER, "tools run sleep 1; run echo done")
    await slack.settled()
    for words in ("! remember blue", "! remember red"):
        slack.fake.says(OWNER, words)
    await slack.fake.until(lambda: len(slack.service.said(slack.main)) == 3)
    await slack.answers(dm)
    await slack.service.until(slack.main, lambda status: status.state == "idle" and status.deliveries == 0)
    assert slack.fake.texts(dm) == slack.fake.texts(dm, ts), "and nowhere else"


async def test_words_that_join_a_turn_pass_over_messages_that_open_none(slack: Slack) -> None:
    """Commands, and other such words, with a mention or without."""
    dm, at = slack.fake.dm(OWNER), f"<@{BOT_USER}>"
    first = slack.fake.says(OWNER, "remember one")
    await slack.answers(dm)
    for count, words in enumerate((f"{at} /status", f"{at} ! remember two", "! remember three"), 2):
        slack.fake.says(OWNER, words)
        await slack.answers(dm, count=count)
    odd = slack.fake.says(OWNER, f"{at} /etc/hosts looks odd")
    await slack.answers(dm, count=5)
    slack.fake.says(OWNER, "! remember four")
    await slack.answers(dm, count=6)
    places = [line["reply_address"] for line in slack.service.lines(slack.main) if line["role"] == "user"]
    assert places == [f"slack:{TEAM}/{dm}/{ts}" for ts in (first, first, first, odd, odd)]

"""Replies into Slack: each message once as people see it, in order, and harmless."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from aiohttp import web

from agent_session.domain.outbound import WORDS
from agent_session.settings_channels import SlackSettings
from agent_session.transcript.volume import Volume, VolumeUnavailable
from channels.slack.posting import Poster, journal_of
from channels.slack.posting_calls import Limited, NotDone, Unsure
from channels.slack.posting_lookup import EVENT_TYPE
from channels.slack.web import web_client
from tests.channels.slack_out_support import LOST, TURN, Workplace, reply
from tests.fakes.slack import TEAM, FakeSlack

LONG = "\n\n".join(f"Paragraph {number}. " + "Some words of it. " * 59 + "The end." for number in range(12))


async def test_a_reply_is_posted_once_however_often_it_is_handed_over(slack: FakeSlack, place: Workplace) -> None:
    poster = place.poster()
    for one in (poster, poster, place.poster()):
        await one.post(reply("**hello**"))
    assert slack.texts("C1") == ["*hello*"]


async def test_a_reply_goes_into_its_thread(slack: FakeSlack, place: Workplace) -> None:
    ts = slack.mentions("U1", "hello")
    await place.poster().post(reply("there", f"{TEAM}/C1/{ts}"))
    assert slack.texts("C1", thread=ts) == ["there"]
    assert slack.texts("C1") == []


@pytest.mark.parametrize("in_thread", [True, False])
@pytest.mark.parametrize("fault", [{"drop": True}, {"error": "internal_error"}, {"status": 500}])
async def test_a_crash_between_post_and_record_posts_once(
    slack: FakeSlack, place: Workplace, fault: dict[str, object], in_thread: bool
) -> None:
    where = f"{TEAM}/C1/{slack.mentions('U1', 'hello')}" if in_thread else f"{TEAM}/C1"
    slack.fault("chat.postMessage", after=True, **fault)
    with pytest.raises(Unsure):
        await place.poster().post(reply("once", where))
    await place.poster().post(reply("once", where))
    assert slack.texts("C1", thread=where.partition("C1/")[2]) == ["once"]
    assert len(slack.calls("chat.postMessage")) == 1


@pytest.mark.parametrize("direct", [True, False])
async def test_a_reply_to_a_thread_that_was_deleted_is_posted_once(
    slack: FakeSlack, place: Workplace, direct: bool
) -> None:
    """It stands in the conversation itself then, and Slack knows no such thread."""
    channel = slack.dm("U1") if direct else "C1"
    ts = slack.says("U1", "hello", channel=channel)
    slack.deletes(ts)
    slack.fault("chat.postMessage", after=True, drop=True)
    with pytest.raises(Unsure):
        await place.poster().post(reply("once", f"{TEAM}/{channel}/{ts}"))
    await place.poster().post(reply("once", f"{TEAM}/{channel}/{ts}"))
    assert [one["text"] for one in slack.messages(channel)] == ["once"]
    assert len(slack.calls("chat.postMessage")) == 1


async def test_a_process_that_dies_while_slack_answers_leaves_one_message(slack: FakeSlack, place: Workplace) -> None:
    slack.fault("chat.postMessage", after=True, until=asyncio.Event())
    dying = asyncio.create_task(place.poster().post(reply("once")))
    await slack.until(lambda: slack.texts("C1"))
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    await place.poster().post(reply("once"))
    assert slack.texts("C1") == ["once"]


async def test_a_post_that_arrives_late_is_waited_for(slack: FakeSlack, place: Workplace) -> None:
    """The connection is lost, and the request is still on its way."""
    arrives = asyncio.Event()
    slack.fault("chat.postMessage", until=arrives)
    dying = asyncio.create_task(place.poster().post(reply("once")))
    await slack.until(lambda: slack.calls("chat.postMessage"))
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    again = asyncio.create_task(place.poster(settle_s=1.0).post(reply("once")))
    await asyncio.sleep(0.3)  # longer than a post would take: nothing may happen
    arrives.set()
    await again
    await asyncio.sleep(0.3)
    assert slack.texts("C1") == ["once"]


async def test_a_post_that_never_arrived_is_posted(slack: FakeSlack, place: Workplace) -> None:
    slack.fault("chat.postMessage", **LOST)
    with pytest.raises(Unsure):
        await place.poster().post(reply("once"))
    await place.poster().post(reply("once"))
    assert slack.texts("C1") == ["once"]


async def test_a_lost_post_is_found_behind_many_others(slack: FakeSlack, place: Workplace) -> None:
    ts = slack.mentions("U1", "hello")
    for number in range(450):
        slack.says("U2", f"{number}", channel="C1", thread=ts)
    slack.fault("chat.postMessage", after=True, drop=True)
    with pytest.raises(Unsure):
        await place.poster().post(reply("once", f"{TEAM}/C1/{ts}"))
    for number in range(450):
        slack.says("U2", f"{number}", channel="C1", thread=ts)
    await place.poster().post(reply("once", f"{TEAM}/C1/{ts}"))
    assert slack.texts("C1", thread=ts) == ["once"]


async def test_the_same_words_of_another_reply_are_not_taken_for_it(slack: FakeSlack, place: Workplace) -> None:
    await place.poster().post(reply("same", name="t-00000000000000aa"))
    slack.fault("chat.postMessage", **LOST)
    with pytest.raises(Unsure):
        await place.poster().post(reply("same"))
    await place.poster().post(reply("same"))
    assert slack.texts("C1") == ["same", "same"]


async def test_two_replicas_that_deliver_at_once_post_one_message(slack: FakeSlack, place: Workplace) -> None:
    slack.fault("chat.postMessage", delay_s=0.3)
    posters = [place.poster() for _ in range(4)]
    await asyncio.gather(*(one.post(reply(LONG)) for one in posters))
    texts = slack.texts("C1")
    assert [text.count("Paragraph") > 0 for text in texts] == [True] * len(texts)
    assert "".join(texts).count("Paragraph 3.") == 1


async def test_a_long_answer_comes_in_parts_in_order(slack: FakeSlack, place: Workplace) -> None:
    await place.poster().post(reply(LONG))
    texts = slack.texts("C1")
    assert len(texts) > 2
    assert all(len(text) < 4_000 for text in texts)
    assert "\n\n".join(text.strip() for text in texts) == LONG.strip()
    parts = [one["metadata"]["event_payload"]["part"] for one in place.own("C1")]
    assert parts == list(range(1, len(texts) + 1))


async def test_after_a_crash_the_parts_that_are_missing_follow(slack: FakeSlack, place: Workplace) -> None:
    await place.poster().post(reply("warm", name="t-00000000000000aa"))
    for fault in ({"delay_s": 0.01}, {"after": True, "drop": True}, LOST):
        slack.fault("chat.postMessage", **fault)
    for _ in range(2):
        with pytest.raises(Unsure):
            await place.poster().post(reply(LONG))
    await place.poster().post(reply(LONG))
    assert "\n\n".join(text.strip() for text in slack.texts("C1")[1:]) == LONG.strip()


async def test_a_very_long_answer_does_not_flood_the_channel(slack: FakeSlack, place: Workplace) -> None:
    await place.poster().post(reply("word " * 60_000))
    texts = slack.texts("C1")
    assert len(texts) == 20
    assert "agent-session history main" in texts[-1]


async def test_a_short_429_is_waited_out(slack: FakeSlack, place: Workplace) -> None:
    slack.limit("chat.postMessage", retry_after=1)
    began = time.monotonic()
    await place.poster().post(reply("once"))
    assert time.monotonic() - began >= 1
    assert slack.texts("C1") == ["once"]


async def test_a_long_429_ends_the_attempt_and_the_next_one_does_not_ask_before(
    slack: FakeSlack, place: Workplace
) -> None:
    poster = place.poster()
    slack.limit("chat.postMessage", retry_after=30)
    for _ in range(3):
        with pytest.raises(Limited):
            await poster.post(reply("later"))
    assert len(slack.calls("chat.postMessage")) == 1
    await place.poster().post(reply("later"))
    assert slack.texts("C1") == ["later"]
    assert slack.calls("conversations.history") == [], "a 429 did nothing: there is nothing to look for"


async def test_nobody_is_pinged_and_nothing_is_unfurled(slack: FakeSlack, place: Workplace) -> None:
    await place.poster().post(reply("<!channel> <@U1> & [x](https://x.y) `<!here>` @everyone"))
    (call,) = slack.calls("chat.postMessage")
    text = "&lt;!channel&gt; &lt;@U1&gt; &amp; <https://x.y|x> `&lt;!here&gt;` @everyone"
    assert call.given["text"] == text
    quiet = {name: call.given[name] for name in ("unfurl_links", "unfurl_media", "link_names", "parse")}
    assert quiet == {"unfurl_links": False, "unfurl_media": False, "link_names": False, "parse": "none"}


async def test_other_apps_learn_no_session_from_metadata(slack: FakeSlack, place: Workplace) -> None:
    await place.poster().post(reply("hello"))
    (message,) = place.own("C1")
    assert message["metadata"]["event_type"] == EVENT_TYPE
    assert message["metadata"]["event_payload"]["reply"] == TURN
    assert "main" not in str(message["metadata"])


async def test_the_services_own_words_are_shown_as_they_are(slack: FakeSlack, place: Workplace) -> None:
    """They may show a call: nothing in them is taken for markup."""
    await place.poster().post(reply("shell *rm* `x` <!here>", kind=WORDS))
    await place.poster().post(reply("Stopping turn 3.", kind=WORDS, name="t-00000000000000aa"))
    await place.poster().post(reply("**done**", kind=WORDS, name=f"{TURN}-1-0"))
    code = "```\nshell *rm* `x` &lt;!here&gt;\n```"
    assert slack.texts("C1") == [code, "Stopping turn 3.", "*done*"], "what a tool sends is Markdown"


@pytest.mark.parametrize(
    "bad", ["", "c1", "#general", "/C1", "T1/", "T1/C1/x", "T1/C1/1.1/2", "T1/../C1", "slack:T1/C1", "t1/c1"]
)
async def test_what_is_no_place_is_refused(place: Workplace, bad: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        place.poster().check_place(bad)
    with pytest.raises(ValueError, match=r".+"):
        await place.poster().post(reply("x", bad))


@pytest.mark.parametrize("error", ["channel_not_found", "is_archived", "not_in_channel", "restricted_action"])
async def test_a_place_that_can_never_be_posted_to_is_said(slack: FakeSlack, place: Workplace, error: str) -> None:
    slack.fault("chat.postMessage", error)
    with pytest.raises(ValueError, match=error):
        await place.poster().post(reply("x"))


@pytest.mark.parametrize("error", ["invalid_auth", "missing_scope", "team_added_to_org"])
async def test_what_somebody_may_mend_is_tried_again(slack: FakeSlack, place: Workplace, error: str) -> None:
    slack.fault("chat.postMessage", error, times=20)
    with pytest.raises(NotDone):
        await place.poster().post(reply("x"))
    slack.web._faults.clear()
    await place.poster().post(reply("x"))
    assert slack.texts("C1") == ["x"]


async def test_a_revoked_token_is_tried_again_and_a_new_one_posts(slack: FakeSlack, place: Workplace) -> None:
    slack.revoke()
    poster = place.poster()
    with pytest.raises(NotDone, match="token_revoked"):
        await poster.post(reply("x"))
    slack.grant_again()
    await poster.post(reply("x"))
    assert slack.texts("C1") == ["x"]


async def test_slack_that_cannot_be_reached_is_tried_again(slack: FakeSlack, place: Workplace) -> None:
    away = SlackSettings(**slack.settings(api_url="http://127.0.0.1:9/api/"))
    with pytest.raises(NotDone, match="reached"):
        await Poster(web_client(away), place.volume, away).post(reply("x"))
    await place.poster().post(reply("x"))
    assert slack.texts("C1") == ["x"]


async def test_the_bot_token_goes_to_the_configured_host_only(slack: FakeSlack, place: Workplace) -> None:
    """Also when that host sends us somewhere else."""
    seen: list[str | None] = []

    async def elsewhere(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        assert "canary" not in str(await request.text())
        return web.json_response({"ok": True, "ts": "1.1"})

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(f"http://localhost:{ports[1]}/api/chat.postMessage")

    ports: list[int] = []
    runners: list[web.AppRunner] = []
    for handler in (redirect, elsewhere):
        app = web.Application()
        app.add_routes([web.route("*", "/api/{method}", handler)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.append(runner.addresses[0][1])
        runners.append(runner)
    settings = SlackSettings(**slack.settings(api_url=f"http://127.0.0.1:{ports[0]}/api/"))
    try:
        await Poster(web_client(settings), place.volume, settings).post(reply("x"))
    except (Unsure, NotDone):
        pass  # not to follow is as good
    finally:
        for runner in runners:
            await runner.cleanup()
    assert seen in ([], [None])


def test_a_client_of_another_host_is_not_taken(slack: FakeSlack, place: Workplace) -> None:
    other = SlackSettings(**slack.settings(api_url="https://slack.example/api/"))
    with pytest.raises(ValueError, match=r"slack\.example"):
        Poster(web_client(place.settings), place.volume, other)


async def test_without_its_volume_nothing_is_posted(slack: FakeSlack, place: Workplace) -> None:
    marker = place.volume.root / ".agent-session-volume"
    kept = marker.read_bytes()
    marker.unlink()
    with pytest.raises(VolumeUnavailable):
        await place.poster().post(reply("x"))
    assert slack.calls("chat.postMessage") == []
    marker.write_bytes(kept)
    await place.poster().post(reply("x"))
    assert slack.texts("C1") == ["x"]


def journal(volume: Volume, name: str = TURN) -> Path:
    found = journal_of("main", f"{TEAM}/C1", name)
    return volume.root / "channels" / "slack" / "replies" / found[:2] / f"{found}.jsonl"


async def test_a_journal_that_a_crash_has_torn_is_read(slack: FakeSlack, place: Workplace) -> None:
    await place.poster().post(reply("once"))
    path = journal(place.volume)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]) + lines[-2][:9])  # the record of the post is torn, *done* is lost
    await place.poster().post(reply("once"))
    assert slack.texts("C1") == ["once"]
    path.write_bytes(b"not json\n" + path.read_bytes())
    await place.poster().post(reply("once"))
    assert slack.texts("C1") == ["once"]


async def test_journals_hold_no_token_and_are_private(slack: FakeSlack, place: Workplace) -> None:
    await place.poster().post(reply("words of the answer"))
    path = journal(place.volume)
    assert b"canary" not in path.read_bytes()
    assert b"words of the answer" not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0


async def test_old_journals_are_forgotten(slack: FakeSlack, place: Workplace) -> None:
    await place.poster().post(reply("once"))
    path = journal(place.volume)
    old, young = path.with_name("f" * 32 + ".jsonl"), path.with_name("e" * 32 + ".jsonl")
    for one, days in ((old, 31), (young, 29)):
        one.write_bytes(b"")
        os.utime(one, (time.time() - days * 86_400,) * 2)
    await place.poster().post(reply("once"))
    assert not old.exists()
    assert young.exists()
    assert path.exists()

"""The small rules of Slack's way in, each by itself."""

import pytest

from agent_session.settings import BadSettings, load_settings
from channels.routing import Place, default_session
from channels.slack.dispatch import is_of_team
from channels.slack.events import Deleted, Edited, Said, read
from channels.slack.files import may_have_token
from channels.slack.markup import mentioned, plain, without_own_name
from channels.slack.places import SlackPlace


@pytest.mark.parametrize(("typed", "words"), [
    ("plain", "plain"),
    ("<@U1> and <@U2|bob>", "@ann and @bob"),
    ("<@U9>", "@U9"),
    ("<#C1|general> <#C2>", "#general #C2"),
    ("<!here> <!channel> <!subteam^S1|@team>", "@here @channel @team"),
    ("<!date^1392734382^{date}|Feb 18>", "Feb 18"),
    ("<https://x.com|y>", "y (https://x.com)"),
    ("<https://x.com?a=1&amp;b=2>", "https://x.com?a=1&b=2"),
    ("<http://x.com|x.com>", "http://x.com"),
    ("<mailto:a@b.c|a@b.c>", "a@b.c"),
    ("1 &lt; 2 &amp;&amp; &amp;lt;", "1 < 2 && &lt;"),
    ("&lt;@U1&gt; is no mention", "<@U1> is no mention"),
])  # fmt: skip
def test_slacks_markup_becomes_plain_words(typed: str, words: str) -> None:
    assert plain(typed, {"U1": "ann"}) == words


def test_the_own_name_goes_only_from_the_front() -> None:
    assert without_own_name("<@U0>, <@U0>: do <@U0>", "U0") == "do <@U0>"
    assert mentioned("<@U1> &lt;@U2&gt; <@U1> <@W3|x>") == ["U1", "W3"]


@pytest.mark.parametrize(
    "place", ["T1/C1", "T1/D1/17.000100", "E1/G1/1700000000.000001", "C024BE91L", "C024BE91L/17.000100"]
)
def test_a_place_is_read_as_it_is_written(place: str) -> None:
    assert SlackPlace.parse(place).text == place


@pytest.mark.parametrize(
    "place",
    ["", "U1", "T1", "T1/U1", "general", "#general", "T1/C1/", "T1/C1/x", "T1/C1/1.1/2", "T1/C1\n", "../C1", "T1/c1"],
)
def test_what_is_no_place_is_refused(place: str) -> None:
    with pytest.raises(ValueError, match="no place in Slack"):
        SlackPlace.parse(place)


@pytest.mark.parametrize(("url", "api", "may"), [
    ("https://files.slack.com/x", "https://slack.com/api/", True),
    ("https://team.slack.com/x", "https://slack.com/api/", True),
    ("http://files.slack.com/x", "https://slack.com/api/", False),
    ("https://files.slack.com:8443/x", "https://slack.com/api/", False),
    ("https://notslack.com/x", "https://slack.com/api/", False),
    ("https://slack.com.evil.com/x", "https://slack.com/api/", False),
    ("https://slack.com@evil.com/x", "https://slack.com/api/", False),
    ("https://user@files.slack.com/x", "https://slack.com/api/", False),
    ("https://evil.com/#.slack.com", "https://slack.com/api/", False),
    ("https://files.slack.com/x", "https://mine.example/api/", False),
    ("https://mine.example/x", "https://mine.example/api/", True),
    ("http://mine.example/x", "https://mine.example/api/", False),
    ("https://mine.example:99999/x", "https://mine.example/api/", False),
    ("", "https://slack.com/api/", False),
    ("file:///etc/passwd", "https://slack.com/api/", False),
])  # fmt: skip
def test_the_token_goes_to_slack_or_to_the_server_that_was_set(url: str, api: str, may: bool) -> None:
    assert may_have_token(url, api) is may


SAID = {"type": "message", "channel": "D1", "user": "U1", "text": "hi", "ts": "1.1"}


@pytest.mark.parametrize("more", [
    {"bot_id": "B1"}, {"subtype": "bot_message"}, {"subtype": "channel_topic"}, {"user": ""}, {"ts": None},
    {"type": "reaction_added"}, {"user": "USLACKBOT"}, {"subtype": "message_changed"},
    {"subtype": "message_changed", "message": "x", "previous_message": 7},
    {"type": "app_mention", "edited": {"ts": "2"}},
])  # fmt: skip
def test_what_is_nobodys_words_is_none(more: dict[str, object]) -> None:
    assert read({**SAID, **more}) is None


def test_a_message_that_is_passed_on_is_quoted() -> None:
    shared = {"is_share": True, "author_name": "bob", "text": "run it"}
    said = read({**SAID, "text": "", "attachments": [shared, {"title": "a preview"}, 7]})
    assert isinstance(said, Said)
    assert said.text == "> bob: run it"


@pytest.mark.parametrize(("payload", "ours"), [
    ({"team_id": "T1"}, True), ({"team_id": "T2"}, False), ({"team": {"id": "T2"}}, False), ({}, True),
    ({"team_id": "T2", "authorizations": [{"team_id": "T1"}]}, True), ({"team_id": "T2", "authorizations": 7}, False),
])  # fmt: skip
def test_what_happens_in_another_workspace_is_not_ours(payload: dict[str, object], ours: bool) -> None:
    assert is_of_team(payload, "T1") is ours


def test_words_edits_and_deletions_are_told_apart() -> None:
    said = read(SAID)
    assert said == Said(channel="D1", ts="1.1", user="U1", text="hi")
    now = {"user": "U1", "ts": "1.1", "text": "ho", "edited": {"ts": "2.2"}}
    before = {"user": "U1", "ts": "1.1", "text": "hi"}
    change = {"type": "message", "channel": "D1", "ts": "2.2", "subtype": "message_changed", "previous_message": before}
    edited = read({**change, "message": now})
    assert isinstance(edited, Edited)
    assert (edited.before, edited.now.text, edited.now.edited, edited.is_late) == (said, "ho", "2.2", False)
    late = read({**change, "message": {**now, "edited": {"ts": "90000.0"}}})
    assert isinstance(late, Edited)
    assert late.is_late
    assert read({**change, "message": {**now, "text": "hi"}}) is None, "a preview of a link"
    for gone in (
        {**change, "subtype": "message_deleted"},
        {**change, "message": {"subtype": "tombstone", "ts": "1.1"}},
    ):
        assert read(gone) == Deleted(said=said)


@pytest.mark.parametrize("given", [{"owners": ["ann"]}, {"allowed_users": ["C1"]}, {"allowed_channels": ["#general"]}])
def test_a_name_where_an_id_belongs_is_refused_with_where_to_find_the_id(given: dict[str, list[str]]) -> None:
    with pytest.raises(BadSettings, match="in Slack:"):
        load_settings({"slack": given})


def test_without_routes_an_owners_messages_belong_to_main_and_each_thread_to_itself() -> None:
    parts = {"team": "T1", "channel": "D1", "user": "U1"}
    assert default_session(Place(channel="slack", kind="dm", parts=parts, owner=True)) == "main"
    assert default_session(Place(channel="slack", kind="dm", parts=parts)) == "slack/dm/T1/U1"
    thread = {"team": "T1", "channel": "C1", "user": "U1", "thread": "1.1"}
    assert default_session(Place(channel="slack", kind="thread", parts=thread)) == "slack/T1/C1/1.1"

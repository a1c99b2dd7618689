"""Which session a place belongs to: defaults, routes, and routes that cannot be used."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_session.domain.ids import session_key
from channels.routing import BadRoute, Place, Routes, session_of


def slack(kind: str, *, owner: bool = False, **parts: str) -> Place:
    return Place(channel="slack", kind=kind, parts={"team": "T1", **parts}, owner=owner)


OWNERS_DM = slack("dm", user="U1", channel="D1", owner=True)
STRANGERS_DM = slack("dm", user="U2", channel="D2")
THREAD = slack("thread", user="U2", channel="C1", thread="17.1")
OTHER_THREAD = slack("thread", user="U1", channel="C1", thread="18.1")
FLAT = slack("channel", user="U2", channel="C1")
GROUP = slack("group", user="U2", channel="G1")
GROUP_THREAD = slack("group", user="U2", channel="G1", thread="19.1")


@pytest.mark.parametrize(
    ("place", "key"),
    [
        (OWNERS_DM, "main"),
        (STRANGERS_DM, "slack/dm/T1/U2"),
        (THREAD, "slack/T1/C1/17.1"),
        (FLAT, "slack/T1/C1"),
        (GROUP, "slack/T1/G1"),
        (Place(channel="mailbox", kind="dm", parts={"user": "ada"}), "mailbox/dm/ada"),
    ],
)
def test_without_routes_owners_share_main_and_everybody_else_has_a_session_of_their_own(place: Place, key: str) -> None:
    assert session_of({}, place) == key


@pytest.mark.parametrize(
    ("routes", "place", "key"),
    [
        ({"dm:U2": "main"}, STRANGERS_DM, "main"),
        ({"dm:U3": "main"}, STRANGERS_DM, "slack/dm/T1/U2"),
        ({"owner": "work"}, OWNERS_DM, "work"),
        ({"owner": "work"}, STRANGERS_DM, "slack/dm/T1/U2"),
        ({"thread": "slack/{channel}/{thread}"}, THREAD, "slack/C1/17.1"),
        ({"channel:C1": "ops"}, FLAT, "ops"),
        ({"channel:C1": "ops"}, THREAD, "ops"),
        ({"thread:C1": "ops"}, FLAT, "slack/T1/C1"),
        ({"thread:channel=C1,thread=17.*": "hot"}, THREAD, "hot"),
        ({"thread:channel=C1,thread=17.*": "hot"}, OTHER_THREAD, "slack/T1/C1/18.1"),
        ({"*:team=T1": "all of {team}"}, GROUP, "all of T1"),
        ({"channel:G1": "ours"}, GROUP, "ours"),
        ({"channel:G1": "ours"}, GROUP_THREAD, "ours"),
        ({"thread:G1": "ours/{thread}"}, GROUP_THREAD, "ours/19.1"),
        ({"thread:G1": "ours"}, GROUP, "slack/T1/G1"),  # outside its threads
        ({"group": "a", "thread": "b", "channel": "c"}, GROUP_THREAD, "a"),
        ({"group": "a"}, THREAD, "slack/T1/C1/17.1"),
        ({"dm": "x/{thread}"}, STRANGERS_DM, "slack/dm/T1/U2"),  # it has no thread to put in
        ({"dm:U.": "main"}, STRANGERS_DM, "slack/dm/T1/U2"),  # no regular expressions
    ],
)
def test_a_route_gives_the_places_that_fit_it_a_session(routes: dict[str, str], place: Place, key: str) -> None:
    assert session_of(routes, place) == key


def test_the_narrowest_route_counts_whatever_their_order() -> None:
    routes = {"*": "a", "channel": "b", "thread": "c", "thread:C*": "d", "thread:C1": "e"}
    routes["thread:channel=C1,user=U1"] = "f"
    elsewhere = slack("thread", channel="D9", thread="1")
    places = [OWNERS_DM, FLAT, elsewhere, slack("thread", channel="C2", thread="1"), THREAD, OTHER_THREAD]
    for table in (routes, dict(reversed(routes.items()))):
        assert [Routes(table).session_of(place) for place in places] == list("abcdef")
    assert session_of({"dm": "a", "owner": "b"}, OWNERS_DM) == "b"


@pytest.mark.parametrize(
    ("pattern", "template", "words"),
    [
        ("direct", "main", "begins with none of"),
        ("dm:", "main", "names nothing behind its colon"),
        ("dm:=U1", "main", "no '<part>=<id>'"),
        ("dm:User=U1", "main", "no '<part>=<id>'"),
        ("dm:U1,U2", "main", "names the part 'user' twice"),
        ("dm", "", "a session key is empty"),
        ("dm", "x" * 201, "the limit is 200"),
        ("dm", "a\nb", "control character"),
        ("dm", "{user}", "begin it with a word of your own"),
        ("dm", "slack/{user", "expected '}'"),
        ("dm", "slack/{}", "the name of a part"),
        ("dm", "slack/{user.name}", "the name of a part"),
        ("dm", "slack/{user!r}", "the name of a part"),
    ],
)
def test_a_route_that_cannot_be_used_is_named_with_the_reason(pattern: str, template: str, words: str) -> None:
    with pytest.raises(BadRoute) as refused:
        Routes({"dm:U9": "fine", pattern: template})
    assert repr(pattern) in str(refused.value)
    assert words in str(refused.value)


@given(st.dictionaries(st.sampled_from(["team", "user", "channel", "thread"]), st.text(max_size=300)), st.data())
def test_whatever_a_place_is_called_its_key_is_one_and_never_somebody_elses(parts: dict[str, str], data: Any) -> None:
    """A part is put in as a part: it neither ends the key, nor makes that of another place."""
    kind = data.draw(st.sampled_from(["dm", "group", "channel", "thread", "unheard of"]))
    routes = data.draw(st.sampled_from([{}, {"dm": "a/{user}/b"}, {"*": "a/{channel}"}]))
    place = Place(channel="slack", kind=kind, parts=parts)
    key = session_of(routes, place)
    assert key == session_key(key) == session_of(routes, place)
    assert key != "main"
    assert key.count("/") <= 4


def test_two_places_never_share_a_key_by_the_way_they_are_written() -> None:
    one = slack("dm", user="a/b")
    other = Place(channel="slack", kind="dm", parts={"team": "T1/a", "user": "b"})
    quoted = slack("dm", user="a%2Fb")
    long, longer = (slack("dm", user="x" * size) for size in (300, 301))
    assert len({session_of({}, place) for place in (one, other, quoted, long, longer)}) == 5

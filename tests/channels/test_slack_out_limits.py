"""Slack's limits: a method's for the whole workspace, a post's for each conversation; what is decorative gives way."""

import asyncio
import time

import pytest

from channels.slack.posting_calls import PACES, Limited, Pace, calls_of
from channels.slack.web import web_client
from tests.channels.slack_out_support import Workplace
from tests.fakes.slack import FakeSlack


def soon(seconds: float = 10.0) -> float:
    return time.monotonic() + seconds


async def two_messages(slack: FakeSlack, place: Workplace) -> list[dict[str, str]]:
    """One in each of two channels."""
    calls = calls_of(web_client(place.settings))
    found: list[dict[str, str]] = []
    for channel in ("C1", "C2"):
        posted = await calls.do("chat_postMessage", soon(), channel=channel, text="x")
        found.append({"channel": channel, "ts": posted["ts"]})
    return found


async def test_a_limit_on_edits_is_the_whole_workspaces(slack: FakeSlack, place: Workplace) -> None:
    here, there = await two_messages(slack, place)
    calls = calls_of(web_client(place.settings))
    slack.limit("chat.update", retry_after=30)
    for where in (here, there, there):
        with pytest.raises(Limited):
            await calls.do("chat_update", soon(), **where, text="y")
    assert len(slack.calls("chat.update")) == 1, "another channel does not ask before, either"


async def test_a_limit_on_posts_is_that_of_one_conversation(slack: FakeSlack, place: Workplace) -> None:
    calls = calls_of(web_client(place.settings))
    slack.limit("chat.postMessage", retry_after=30)
    with pytest.raises(Limited):
        await calls.do("chat_postMessage", soon(), channel="C1", text="x")
    await calls.do("chat_postMessage", soon(), channel="C2", text="x")
    with pytest.raises(Limited):
        await calls.do("chat_postMessage", soon(), channel="C1", text="x")
    assert len(slack.calls("chat.postMessage")) == 2


async def test_a_decorative_call_waits_for_no_limit_and_lets_others_go_first(
    slack: FakeSlack, place: Workplace
) -> None:
    here, there = await two_messages(slack, place)
    calls = calls_of(web_client(place.settings))
    slack.limit("chat.update", retry_after=1)
    with pytest.raises(Limited):
        await calls.perhaps("chat_update", soon(), **here, text="growing")
    final = asyncio.create_task(calls.do("chat_update", soon(), **there, text="final"))
    while not final.done():
        try:
            await calls.perhaps("chat_update", soon(), **here, text="growing")
        except Limited:
            await asyncio.sleep(0)
        else:
            break
    await final
    outcomes = [call.given["text"] for call in slack.calls("chat.update") if call.outcome == "ok"]
    assert outcomes[0] == "final"


async def test_all_who_share_a_client_share_its_limits(slack: FakeSlack, place: Workplace) -> None:
    """Deliveries, answers that grow and marks on cards."""
    web = web_client(place.settings)
    assert calls_of(web) is calls_of(web)
    assert calls_of(web) is not calls_of(web_client(place.settings))


@pytest.mark.parametrize("method", PACES)
def test_decorative_calls_stay_below_what_slack_takes(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any minute, all conversations together."""
    now = 1_000.0
    monkeypatch.setattr("channels.slack.posting_calls.time.monotonic", lambda: now)
    pace = Pace(PACES[method])
    at = sorted(now + pace.take() for _ in range(300))
    worst = max(sum(begin <= one < begin + 60 for one in at) for begin in at)
    assert worst <= {"chat_update": 50, "chat_appendStream": 100, "chat_startStream": 25}[method]
    assert at[0] == now, "who comes after a quiet time does not wait"


def test_what_is_final_takes_the_room_of_what_is_decorative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channels.slack.posting_calls.time.monotonic", lambda: 1_000.0)
    alone, among = Pace(40), Pace(40)
    for _ in range(20):
        among.take()
    assert alone.take() == 0.0
    assert among.take() > 10.0

"""Replies into Slack while processes are killed and Slack fails: each part once, in order."""

import asyncio
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from channels.slack.outbox import Held
from channels.slack.posting_calls import NotDone, Unsure
from tests.channels.slack_out_support import LOST, SESSION, Workplace, reply
from tests.fakes.slack import BOT_TOKEN as TOKEN
from tests.fakes.slack import BOT_USER, FakeSlack

LONG = "\n\n".join(f"Paragraph {number}. " + "Some words of it. " * 59 + "The end." for number in range(12))
FAULTS: list[dict[str, Any]] = [
    LOST, {"drop": True, "after": True}, {"error": "internal_error", "after": True}, {"status": 503},
    {"status": 502, "after": True}, {"status": 429, "retry_after": 1}, {"error": "fatal_error"}, {"delay_s": 0.2},
]  # fmt: skip


async def killed_while_posting(slack: FakeSlack, place: Workplace, words: str, seen: int) -> None:
    """A process that is killed (SIGKILL) once `seen` of its messages stand there and Slack has not answered."""
    slack.fault("chat.postMessage", after=True, until=asyncio.Event())
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.channels.slack_out_life", str(place.volume.root), slack.api_url, TOKEN,
        cwd=Path(__file__).parents[2], stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(words.encode())
    process.stdin.close()
    await slack.until(lambda: len(slack.texts("C1")) == seen)
    process.kill()
    await process.wait()


async def test_a_process_that_is_killed_between_post_and_record_posts_nothing_twice(
    slack: FakeSlack, place: Workplace
) -> None:
    for seen in (1, 2, 3):
        await killed_while_posting(slack, place, LONG, seen)
    await place.poster().post(reply(LONG))
    assert "\n\n".join(text.strip() for text in slack.texts("C1")) == LONG
    assert len(slack.calls("chat.postMessage")) == len(slack.texts("C1"))


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_fails_each_part_stands_there_once_and_in_order(
    slack: FakeSlack, place: Workplace, seed: int
) -> None:
    """Three replicas, attempts that are given up at any moment, and a Slack that fails now and then."""
    chance = random.Random(seed)
    for method in ("chat.postMessage",) * 12 + ("conversations.history",) * 4:
        slack.fault(method, **chance.choice(FAULTS))

    async def replica() -> None:
        while True:
            attempt = asyncio.create_task(place.poster(settle_s=0.5).post(reply(LONG)))
            done, _ = await asyncio.wait({attempt}, timeout=chance.choice([0.05, 0.3, 3.0, 20.0]))
            attempt.cancel()
            try:
                await attempt
                return
            except asyncio.CancelledError:
                assert not done
            except (NotDone, Unsure, Held):
                pass

    async with asyncio.timeout(100):
        await asyncio.gather(*(replica() for _ in range(3)))
    assert "\n\n".join(text.strip() for text in slack.texts("C1")) == LONG
    assert {one["user"] for one in place.own("C1")} == {BOT_USER}
    assert SESSION not in str([one["metadata"] for one in place.own("C1")])

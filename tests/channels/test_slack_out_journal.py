"""The journal of a reply: what it says survives whoever wrote it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_session.transcript.volume import Volume
from channels.slack.outbox import EDITS, Held, Journal, Outbox, digest

NAME = digest("main", "T1/C1", "t-1")


@pytest.fixture
def outbox(volume: Volume) -> Outbox:
    return Outbox(volume)


def path(volume: Volume) -> Path:
    return volume.root / "channels" / "slack" / "replies" / NAME[:2] / f"{NAME}.jsonl"


async def taken(outbox: Outbox) -> AsyncIterator[Journal]:
    async with outbox.held(NAME, 1.0) as journal:
        yield journal


async def test_what_was_written_is_read_by_the_next_one(volume: Volume) -> None:
    async with Outbox(volume).held(NAME, 1.0) as journal:
        assert journal.progress.is_untouched
        await journal.add(do="show", by="me", how=EDITS, at=1.5, begun="Hello")
        await journal.add(did="show", ts="1.1")
        await journal.add(do="post", part=2, of=3, at=2.5)
        written = journal.progress
    async with Outbox(volume).held(NAME, 1.0) as journal:
        assert journal.progress == written
        assert (journal.progress.trying, journal.progress.of) == ({2: (2.5, 2.5)}, 3)
        assert journal.progress.shown is not None
        assert journal.progress.shown.ts == "1.1"


async def test_lines_after_a_torn_one_are_read(volume: Volume, outbox: Outbox) -> None:
    async with outbox.held(NAME, 1.0) as journal:
        await journal.add(do="post", part=1, of=1, at=1.5)
    path(volume).write_bytes(path(volume).read_bytes() + b'{"did":"po')
    async with outbox.held(NAME, 1.0) as journal:
        assert journal.progress.trying == {1: (1.5, 1.5)}
        await journal.add(did="post", part=1, ts="1.1")
    async with outbox.held(NAME, 1.0) as journal:
        assert (journal.progress.posted, journal.progress.trying) == ({1: "1.1"}, {})


async def test_words_of_a_newer_version_and_damage_are_passed_over(volume: Volume, outbox: Outbox) -> None:
    async with outbox.held(NAME, 1.0) as journal:
        await journal.add(do="post", part=1, of=1, at=1.5)
    path(volume).write_bytes(b'\xff\n[]\n{"do":"dance"}\n{"did":"post","part":"x"}\n' + path(volume).read_bytes())
    async with outbox.held(NAME, 1.0) as journal:
        assert journal.progress.trying == {1: (1.5, 1.5)}


async def test_one_at_a_time(volume: Volume) -> None:
    async with Outbox(volume).held(NAME, 1.0):
        with pytest.raises(Held):
            async with Outbox(volume).held(NAME, 0.1):
                pass
        waiting = asyncio.create_task(anext(taken(Outbox(volume))))
    await waiting


async def test_who_gives_up_waiting_leaves_it_free(volume: Volume) -> None:
    """A lock that is taken for somebody who has gone would hold the reply up for ever."""
    for _ in range(20):
        going = asyncio.create_task(anext(taken(Outbox(volume))))
        await asyncio.sleep(0)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
    async with Outbox(volume).held(NAME, 5.0) as journal:
        assert journal.progress.is_untouched


async def test_a_journal_that_is_swept_away_while_somebody_waits_is_not_held_twice(volume: Volume) -> None:
    holding, most = 0, 0

    async def take() -> None:
        nonlocal holding, most
        async with Outbox(volume).held(NAME, 20.0) as journal:
            holding += 1
            most = max(most, holding)
            await asyncio.sleep(0.05)
            await journal.add(do="done")
            holding -= 1

    async with Outbox(volume).held(NAME, 1.0):
        waiting = [asyncio.create_task(take()) for _ in range(3)]
        await asyncio.sleep(0.1)
        path(volume).unlink()
        await asyncio.gather(*waiting)
    assert most == 1
    async with Outbox(volume).held(NAME, 1.0) as journal:
        assert journal.progress.done

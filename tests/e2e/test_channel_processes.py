"""Deliveries through a channel's own process: durable while it is away, once, one at a time and in order."""

import asyncio
import signal
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.channels.system_support import PostOffice, end
from tests.e2e.support import wait_until
from tests.support import Service, fresh_key


async def test_a_reply_waits_while_its_channel_is_down_and_arrives_once_after(
    make_service: Callable[..., Any], tmp_path: Path
) -> None:
    service: Service = await make_service()
    office = PostOffice.of(tmp_path, service)
    async with service.worker("file"):
        key = fresh_key()
        for number in range(3):
            await service.ask(key, f"remember {number}", reply_address="postbox:ada")
        await asyncio.to_thread(wait_until, lambda: office.status()[1]["waiting"])  # it counts now and then
        code, found = await asyncio.to_thread(office.status)
        assert (code, found["pollers"], found["waiting"]) == (1, [], 1), "one in flight per place"
        assert "channels run postbox" in found["problem"]
        assert (await service.client.status(key)).deliveries == 3
        with office.running():
            await asyncio.to_thread(office.until_posted, "ada", 3)
            await service.until(key, lambda status: status.deliveries == 0)
            await asyncio.to_thread(wait_until, lambda: office.status()[1]["waiting"] == 0)  # it counts now and then
            code, found = await asyncio.to_thread(office.status)
        assert (code, len(found["pollers"]), found["problem"]) == (0, 1, "")
    assert office.posted("ada") == [f"I will remember: {number}" for number in range(3)]
    assert len(office.tried("ada")) == 3


async def test_a_process_killed_between_posting_and_saying_so_posts_nothing_twice(
    make_service: Callable[..., Any], tmp_path: Path
) -> None:
    """And what was said before stands before what is said after, place by place."""
    service: Service = await make_service(worker={"heartbeat_timeout_s": 2})  # how soon a killed process is noticed
    office = PostOffice.of(tmp_path, service)
    texts = [f"I will remember: {number}" for number in range(4)]
    async with service.worker():
        keys = {person: fresh_key() for person in ("ada", "bob")}
        for person, key in keys.items():
            for number in range(4):
                await service.client.send(
                    key, f"remember {number}", id=str(number), mode="followup", reply_address=f"postbox:{person}"
                )
        (office.folder / "hold").touch()
        for life in range(3):
            with office.running() as process:
                await asyncio.to_thread(wait_until, lambda n=life: len(office.tried("ada")) > n)
                await asyncio.to_thread(end, process, signal.SIGKILL)
            assert len(office.posted("ada")) == 1, "the next one waits until this one is known to be posted"
        (office.folder / "hold").unlink()
        with office.running():
            for person, key in keys.items():
                await service.until(key, lambda status: status.deliveries == 0, 60)
                assert office.posted(person) == texts
    for person in keys:
        tried = office.tried(person)
        assert [reply for reply, _ in groupby(tried)] == office.posted_ids(person), "one in flight per place"
    assert len(office.tried("ada")) > 4, "nobody was killed in the middle of a delivery"


async def test_a_letter_put_while_the_process_is_down_is_answered_once_it_is_back(
    make_service: Callable[..., Any], tmp_path: Path
) -> None:
    """Taken in by `run`, routed, answered, and delivered by the same process."""
    service: Service = await make_service()
    office = PostOffice.of(tmp_path, service)
    ada = fresh_key("ada").replace("-", "")
    async with service.worker():
        with office.running() as process:
            office.put(f"{ada}-1", "remember one")
            await asyncio.to_thread(office.until_posted, ada, 1)
            await asyncio.to_thread(end, process, signal.SIGKILL)
        office.put(f"{ada}-2", "remember two")
        with office.running():
            await asyncio.to_thread(office.until_posted, ada, 2)
    assert office.posted(ada) == ["I will remember: one", "I will remember: two"]
    assert service.said(f"postbox/dm/{ada}") == ["remember one", "remember two"]
    (line, *_) = [line for line in service.lines(f"postbox/dm/{ada}") if line["role"] == "user"]
    assert (line["principal"], line.get("grants", [])) == ("postbox", []), "a channel's process gives nobody a grant"


async def test_a_source_that_fails_is_listened_to_again_and_its_process_ends_when_told(
    make_service: Callable[..., Any], tmp_path: Path
) -> None:
    service: Service = await make_service()
    office = PostOffice.of(tmp_path, service)
    (office.folder / "broken").touch()
    ada = fresh_key("ada").replace("-", "")
    async with service.worker():
        with office.running() as process:
            assert process.stderr is not None
            line = await asyncio.to_thread(process.stderr.readline)
            assert "the source of postbox died" in line
            assert "mend it" in line
            office.put(f"{ada}-1", "remember one")
            (office.folder / "broken").unlink()
            await asyncio.to_thread(office.until_posted, ada, 1)
            assert await asyncio.to_thread(end, process, signal.SIGTERM) == 0
        with office.running() as process:
            assert await asyncio.to_thread(end, process, signal.SIGINT) == 0

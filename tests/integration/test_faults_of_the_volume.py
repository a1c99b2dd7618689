"""I5, I6 and "who knows the truth": the volume goes away, comes back older; Temporal's database is lost."""

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_session.domain.ids import workflow_id
from agent_session.transcript.volume import Volume
from tests.support import Service, check_transcript, fresh_key


async def test_a_volume_that_is_away_for_a_while_costs_only_time(service: Service) -> None:
    key = fresh_key()
    await service.ask(key, "remember before")
    away = service.settings.data_dir.with_name("away")
    os.rename(service.settings.data_dir, away)
    service.settings.data_dir.mkdir()  # an empty mount point is a fault, not a new world
    service.client.volume.signing_key = lambda key_file=None: (away / "mac.key").read_bytes()  # type: ignore[method-assign]
    waiting = asyncio.create_task(service.ask(key, "what did I say?"))
    await asyncio.sleep(6)
    assert not waiting.done()
    assert list(service.settings.data_dir.iterdir()) == []
    os.rmdir(service.settings.data_dir)
    os.rename(away, service.settings.data_dir)
    reply = await waiting
    assert "before" in reply.text
    check_transcript(service.lines(key))


async def test_a_volume_that_stays_away_gets_an_apology_and_the_session_lives(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service(volume={"patience_s": 1, "catch_up_s": 0.5})
    async with service.worker():
        key = fresh_key()
        await service.ask(key, "remember before")
        away = service.settings.data_dir.with_name("away")
        os.rename(service.settings.data_dir, away)
        service.client.volume.signing_key = lambda key_file=None: (away / "mac.key").read_bytes()  # type: ignore[method-assign]
        reply = await service.ask(key, "hello")
        assert reply.outcome == "failed"
        assert "volume" in reply.text
        assert reply.error_id in reply.text
        status = await service.client.status(key)
        assert status.state == "closing turn"
        await service.client.send(key, "what did I say?", id="later")
        os.rename(away, service.settings.data_dir)
        later = await service.client.await_reply(key, "later", timeout_s=40)
        assert "before" in later.text
        check_transcript(service.lines(key))
        failed = next(line for line in service.lines(key) if line.get("outcome") == "failed")
        assert failed["error_id"] == reply.error_id


async def test_after_the_loss_of_temporals_database_the_talk_goes_on(service: Service) -> None:
    key = fresh_key()
    first = await service.ask(key, "remember one", id="1")
    await service.ask(key, "remember two", id="2")
    await service.temporal.get_workflow_handle(workflow_id(key)).terminate("its state is lost")
    third = await service.ask(key, "what did I say?", id="3")
    assert third.n == 3
    assert "one" in third.text
    assert "two" in third.text
    await service.temporal.get_workflow_handle(workflow_id(key)).terminate("and again")
    before = len(service.lines(key))
    again = await service.ask(key, "remember one", id="1")
    assert (again.turn, again.text) == (first.turn, first.text)
    assert len(service.lines(key)) == before
    check_transcript(service.lines(key))


async def test_a_batch_of_old_and_new_messages_answers_each_by_its_own_turn(service: Service) -> None:
    key = fresh_key()
    old = await service.ask(key, "remember old", id="old")
    await service.temporal.get_workflow_handle(workflow_id(key)).terminate("its state is lost")
    gate = service.gate()
    await service.client.send(key, f"run {gate.command}", id="slow")
    await service.until(key, lambda status: status.tools)
    await service.client.send(key, "remember old", id="old")
    await service.client.send(key, "remember new", id="new")
    gate.open()
    new = await service.client.await_reply(key, "new")
    again = await service.client.await_reply(key, "old")
    assert (again.turn, again.text) == (old.turn, old.text)
    assert new.text == "I will remember: new"
    check_transcript(service.lines(key))


async def test_a_turn_that_was_open_when_temporals_database_was_lost_is_closed_first(service: Service) -> None:
    key = fresh_key()
    await service.client.send(key, "run sleep 30", id="lost")
    await service.until(key, lambda status: status.tools)
    await service.temporal.get_workflow_handle(workflow_id(key)).terminate("its state is lost")
    assert (await service.ask(key, "remember next")).ok
    lines = service.lines(key)
    check_transcript(lines)
    ends = [line["outcome"] for line in lines if line.get("event") == "ended"]
    assert ends == ["interrupted", "answered"]


async def test_a_volume_restored_to_an_older_copy_gives_a_gap_and_an_apology(service: Service) -> None:
    key = fresh_key()
    await service.ask(key, "remember kept")
    await service.ask_and_lose(key, "remember lost")
    reply = await service.ask(key, "what did I say?")
    assert reply.ok
    assert reply.text.startswith("Sorry")
    assert "kept" in reply.text
    assert "remember lost" not in reply.text
    assert [line["to"] for line in service.lines(key) if line.get("event") == "gap"] == [6]
    assert (await service.ask(key, "remember more")).text == "I will remember: more"
    check_transcript(service.lines(key))


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with open(path, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1024)
        except OSError as error:
            full = error.errno == errno.ENOSPC
    assert full


async def test_a_full_disk_loses_nothing(make_service: Callable[..., Any], tmp_path: Any) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mount = tmp_path / "data"
    mount.mkdir()
    if os.system(f"mount -t tmpfs -o size=256k tmpfs {mount} 2>/dev/null"):
        pytest.skip("this machine may not mount")
    try:
        Volume(mount).initialise()
        service: Service = await make_service()
        async with service.worker():
            key = fresh_key()
            await service.ask(key, "remember before")
            ballast = mount / "ballast"
            fill(ballast)
            waiting = [asyncio.create_task(service.ask(key, f"{n} " + "x" * 1200, mode="followup")) for n in range(4)]
            await asyncio.sleep(3)
            assert not all(task.done() for task in waiting)
            check_transcript(service.lines(key))
            ballast.unlink()
            assert all([(await task).ok for task in waiting])
            check_transcript(service.lines(key))
    finally:
        os.system(f"umount -l {mount}")

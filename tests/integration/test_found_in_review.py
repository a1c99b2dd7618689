"""Sequences that once went wrong, each kept as a rule."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_session.domain.authority import sign_message
from agent_session.domain.ids import workflow_id
from agent_session.domain.messages import InboundMessage
from agent_session.domain.wire import to_wire
from agent_session.models.base import ModelAnswer, RequestedCall
from agent_session.ops.child import Child
from agent_session.transcript import spool
from tests.channels.test_deliveries import until_delivered
from tests.support import Service, check_transcript, fresh_key


class Stubborn:
    """A model that answers, cancelled or not, once it may."""

    def __init__(self) -> None:
        self.asked, self.cancelled, self.go = asyncio.Event(), asyncio.Event(), asyncio.Event()


@pytest.fixture
async def slow_to_answer(make_service: Callable[..., Any]) -> AsyncIterator[tuple[Service, Stubborn]]:
    """A service with such a model: a cancel crosses its answer."""
    service: Service = await make_service()
    async with service.worker() as services:
        model = Stubborn()
        inner = services.call_model

        async def stubborn(prompt: Any, on_text: Any) -> ModelAnswer:
            if prompt.step == 1:
                model.asked.set()
                waiting = asyncio.ensure_future(model.go.wait())
                while not waiting.done():
                    try:
                        await asyncio.shield(waiting)
                    except asyncio.CancelledError:
                        model.cancelled.set()
            return await inner(prompt, on_text)

        services.call_model = stubborn  # type: ignore[assignment]
        yield service, model


async def test_a_cancel_that_crosses_the_models_answer_keeps_its_tools_from_running(
    slow_to_answer: tuple[Service, Stubborn],
) -> None:
    service, model = slow_to_answer
    key = fresh_key()
    await service.client.send(key, "run touch ran", id="m")
    await asyncio.wait_for(model.asked.wait(), 30)
    await service.client.cancel(key)
    await asyncio.wait_for(model.cancelled.wait(), 30)
    model.go.set()
    assert (await service.client.await_reply(key, "m", timeout_s=20)).outcome == "cancelled"
    assert not (service.volume.path_of(key) / "workspace" / "ran").exists()
    assert "started" not in [line.get("event") for line in service.lines(key)]
    check_transcript(service.lines(key))


async def test_spilled_messages_that_are_lost_get_an_apology_and_the_session_goes_on(
    make_service: Callable[..., Any],
) -> None:
    service: Service = await make_service()
    async with service.worker():
        key = fresh_key()
        await service.client.send(key, "run while [ ! -e go ]; do sleep 0.1; done", id="slow")
        await service.until(key, lambda status: status.tools)
        for number in range(240):
            await service.client.send(key, f"{number} " + "x" * 1500, id=str(number))
        folder = service.volume.path_of(key)
        async with asyncio.timeout(20):
            while len(list((folder / "spool").glob("*"))) < 2:
                await asyncio.sleep(0.1)
        lost = sorted((folder / "spool").iterdir(), key=lambda path: path.stat().st_mtime)[0]
        lost.unlink()
        (folder / "workspace" / "go").touch()
        replies = [await service.client.await_reply(key, str(number), timeout_s=60) for number in range(240)]
        assert {reply.outcome for reply in replies} == {"answered", "failed"}
        assert [reply.outcome for reply in replies].count("failed") <= 64
        assert (await service.ask(key, "remember that it lives")).ok


async def test_huge_unsigned_signals_wedge_nothing(service: Service) -> None:
    key, gate = fresh_key(), service.gate()
    await service.client.send(key, f"run {gate.command}", id="slow")
    await service.until(key, lambda status: status.tools)
    handle = service.temporal.get_workflow_handle(workflow_id(key))
    for number in range(150):
        await handle.signal("receive", {"id": str(number), "channel": "x", "text": "y" * 32_768})
    gate.open()
    assert (await service.ask(key, "remember that it lives")).ok


async def test_a_reply_that_a_restore_lost_does_not_block_its_place(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service(volume={"catch_up_s": 1.0})
    async with service.worker():
        key = fresh_key()
        await service.ask(key, "remember kept")
        await service.ask_and_lose(key, "remember lost", reply_address="file:place")
        await service.ask(key, "remember next", reply_address="file:place")
    async with service.worker("file"):
        first, second = await until_delivered(service, "place", 2)
    assert "lost when the data volume was restored" in first
    assert "remember: next" in second


async def test_a_file_that_was_written_is_never_reported_as_not_run(service: Service) -> None:
    key = fresh_key()
    services = service.services
    assert services is not None
    original = services.record.result

    async def lost(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the attempt is lost after its effect")

    services.record.result = lost  # type: ignore[method-assign]
    await service.client.send(key, "write f written", id="m")
    async with asyncio.timeout(90):  # five attempts, each with a long report on what went wrong
        while not [line for line in service.lines(key) if line["role"] == "tool"]:
            await asyncio.sleep(0.1)
    services.record.result = original  # type: ignore[method-assign]
    assert (service.volume.path_of(key) / "workspace" / "f").read_text() == "written"
    (result,) = [line for line in service.lines(key) if line["role"] == "tool"]
    assert "may or may not" in result["content"]


async def test_an_unsigned_message_does_not_use_up_a_persons_id(service: Service) -> None:
    for first in ("answered before", "still waiting"):
        key, gate = fresh_key(), service.gate()
        if first == "still waiting":
            await service.client.send(key, f"run {gate.command}", id="slow")
            await service.until(key, lambda status: status.tools)
        message = InboundMessage(id="mine", channel="test", text="forged", principal=service.client.principal)
        await service.signal(key, to_wire(message))
        if first == "answered before":
            assert "not signed" in (await service.client.await_reply(key, "mine", timeout_s=20)).text
        await service.client.send(key, "remember what I said", id="mine")
        gate.open()
        reply = await service.client.await_reply(key, "mine", timeout_s=60)
        assert reply.text == "I will remember: what I said", first
        assert "forged" not in service.said(key)


async def test_a_message_that_was_refused_for_a_full_queue_can_be_sent_again(service: Service) -> None:
    from agent_session.domain.inbox import Inbox

    inbox = Inbox()
    message = InboundMessage(id="m", channel="test", text="x")
    assert inbox.accept(message) == "queued"
    inbox.refused(message.scoped)
    assert not inbox.knows(message.scoped)
    assert inbox.accept(message) == "queued"


async def test_a_gap_is_noted_once_however_often_the_step_is_tried(service: Service) -> None:
    key = fresh_key()
    await service.ask(key, "remember kept")
    await service.ask_and_lose(key, "remember lost")
    services = service.services
    assert services is not None
    original, tries = services.build_prompt, 0

    async def stumbles(*a: Any, **k: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise RuntimeError("not yet")
        return await original(*a, **k)

    services.build_prompt = stumbles  # type: ignore[assignment]
    assert (await service.ask(key, "hello")).text.startswith("Sorry")
    assert len([line for line in service.lines(key) if line.get("event") == "gap"]) == 1


async def test_a_model_call_is_bounded_as_a_whole(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service(model={"timeout_s": 1, "attempts": 2})
    async with service.worker():
        reply = await service.client.ask(fresh_key(), "sleep 60", timeout_s=30)
    assert reply.outcome == "failed"
    assert "longer than it may" in reply.text


async def test_a_dead_child_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert await (await Child.start(["/bin/true"], tmp_path / "log")).wait() == 0
    assert len(os.listdir("/proc/self/fd")) <= before + 1


async def test_who_lacks_a_grant_must_ask_and_cannot_allow(service: Service) -> None:
    key = fresh_key()
    message = InboundMessage(id="m", channel="test", text="run echo x", principal="slack:U1")
    await service.signal(key, to_wire(sign_message(service.volume.signing_key(), key, message)))
    status = await service.until(key, lambda status: status.state == "waiting approval")
    stranger = type(service.client)(service.temporal, service.settings, channel="test", principal="slack:U1")
    stranger.grants = ()
    (waiting,) = stranger.waiting_calls(key, status)
    await stranger.resolve(key, waiting["call"], waiting["digest"], "allow")
    assert "may not allow it" in (await stranger.await_reply(key, "m", timeout_s=20)).text


async def test_calls_that_run_one_after_another_stop_at_a_cancel(service: Service) -> None:
    services = service.services
    assert services is not None
    shell = services.toolbox.find("shell")
    assert shell is not None
    services.toolbox._tools["shell"] = replace(shell, parallel=False)
    inner = services.call_model

    async def two_calls(prompt: Any, on_text: Any) -> ModelAnswer:
        if prompt.step == 1 and prompt.n == 1:
            commands = '{"command": "sleep 30"}', '{"command": "touch second"}'
            return ModelAnswer("", [RequestedCall("shell", command) for command in commands])
        return await inner(prompt, on_text)

    services.call_model = two_calls  # type: ignore[assignment]
    key = fresh_key()
    await service.client.send(key, "go", id="m")
    await service.until(key, lambda status: status.tools)
    await service.client.cancel(key)
    assert (await service.client.await_reply(key, "m", timeout_s=20)).outcome == "cancelled"
    assert not (service.volume.path_of(key) / "workspace" / "second").exists()
    check_transcript(service.lines(key))


async def test_two_first_starts_make_one_volume(tmp_path: Path) -> None:
    from agent_session.transcript.volume import Volume

    volumes = [Volume(tmp_path / "new") for _ in range(8)]
    await asyncio.gather(*(asyncio.to_thread(volume.create_or_check) for volume in volumes))
    assert len({volume.signing_key() for volume in volumes}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("name", ["写" * 83 + ".txt", "x" * 300, "..", "a/b\\c", ".hidden", "\u202efdp.exe"])
async def test_an_attachments_name_never_costs_the_turn(service: Service, tmp_path: Path, name: str) -> None:
    """I6: a name of many bytes, or one that leads elsewhere; two different files of one name."""
    key = fresh_key()
    for content in ("one", "two"):
        file = tmp_path / "file"
        file.write_text(content)
        ref = spool.put(service.volume, key, content.encode())
        message = InboundMessage(
            id=content, channel="test", text=f"look at {content}", principal=service.client.principal,
            grants=service.client.grants, attachments=(f"{ref} 3 text/plain {name[:200]}",),
        )  # fmt: skip
        secret = service.volume.signing_key()
        await service.signal(key, to_wire(sign_message(secret, key, message)))
        assert (await service.client.await_reply(key, content, timeout_s=20)).ok
    kept = sorted(path.read_text() for path in (service.volume.path_of(key) / "workspace" / "attachments").iterdir())
    assert kept == ["one", "two"]


async def test_a_workspace_that_cannot_take_attachments_costs_the_copy_and_not_the_turn(
    service: Service, tmp_path: Path
) -> None:
    key = fresh_key()
    await service.ask(key, "run ln -s /etc attachments")
    file = tmp_path / "notes.txt"
    file.write_text("hello")
    assert (await service.ask(key, "look", attachments=[file])).ok
    assert "could not be put into the workspace" in service.said(key)[-1]


def test_a_workspace_never_holds_the_data_directory(service: Service) -> None:
    for path in (service.settings.data_dir.parent, service.settings.data_dir, Path("/")):
        with pytest.raises(ValueError, match="data directory"):
            service.client.use_workspace(fresh_key(), path)

"""I5, I6: cancel and interrupt at every await point; the session lives and the transcript is valid."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import CancelledError

from agent_session.domain.ids import workflow_id
from agent_session.transcript.log import Proof
from agent_session.transcript.recorder import JsonlRecorder
from tests.support import Service, check_transcript, fresh_key

OUTCOME = {"cancel": "cancelled", "interrupt": "interrupted"}


async def stop(service: Service, key: str, how: str) -> None:
    if how == "cancel":
        await service.client.cancel(key)
    else:
        await service.client.send(key, "remember the interruption", id="i", mode="interrupt")


async def lives(service: Service, key: str) -> None:
    assert (await service.ask(key, "remember that it lives")).ok
    await service.until(key, lambda status: status.state == "idle" and not status.queue)
    check_transcript(service.lines(key))


@pytest.mark.parametrize("how", ["cancel", "interrupt"])
async def test_while_the_model_is_called(service: Service, how: str) -> None:
    key = fresh_key()
    await service.client.send(key, "sleep 60", id="m")
    await service.until(key, lambda status: status.state == "running")
    await asyncio.sleep(0.3)  # into the call itself
    await stop(service, key, how)
    assert (await service.client.await_reply(key, "m", timeout_s=15)).outcome == OUTCOME[how]
    await lives(service, key)


@pytest.mark.parametrize("how", ["cancel", "interrupt"])
async def test_while_tools_run(service: Service, how: str) -> None:
    key = fresh_key()
    await service.client.send(key, "tools run sleep 60; run sleep 61; run echo quick", id="m")
    await service.until(key, lambda status: len(status.tools) == 2)
    await stop(service, key, how)
    assert (await service.client.await_reply(key, "m", timeout_s=15)).outcome == OUTCOME[how]
    outcomes = [line["outcome"] for line in service.lines(key) if line["role"] == "tool"]
    assert sorted(outcomes) == ["cancelled", "cancelled", "ok"]
    await lives(service, key)


@pytest.mark.parametrize("how", ["cancel", "interrupt"])
async def test_while_it_waits_for_an_approval(make_service: Callable[..., Any], how: str) -> None:
    service: Service = await make_service(tools={"ask": ["shell"]})
    async with service.worker():
        key = fresh_key()
        await service.client.send(key, "run echo x", id="m")
        await service.until(key, lambda status: status.state == "waiting approval")
        await stop(service, key, how)
        assert (await service.client.await_reply(key, "m", timeout_s=15)).outcome == OUTCOME[how]
        await lives(service, key)


class Hesitant(JsonlRecorder):
    """The real recorder, that waits before one kind of append so that a cancel meets it there."""

    def __init__(self, inner: JsonlRecorder, where: str) -> None:
        super().__init__(inner.volume, catch_up_s=0.5)
        self.where, self.reached, self.go = where, asyncio.Event(), asyncio.Event()

    async def _append(self, key: str, plan: Any, proof: Proof) -> Any:
        if self.where in plan.__qualname__ and not self.reached.is_set():
            self.reached.set()
            await self.go.wait()
        return await super()._append(key, plan, proof)


@pytest.mark.parametrize("where", ["open_step", "answer", "started", "result", "close"])
async def test_while_a_line_is_appended(make_service: Callable[..., Any], where: str) -> None:
    service: Service = await make_service()
    async with service.worker() as services:
        recorder = Hesitant(services.record, where)  # type: ignore[arg-type]
        services.record = recorder
        key = fresh_key()
        await service.client.send(key, "run sleep 60" if where == "close" else "run echo x", id="m")
        if where == "close":
            await service.until(key, lambda status: status.tools)
            await service.client.cancel(key)
        await asyncio.wait_for(recorder.reached.wait(), 15)
        await service.client.cancel(key)
        await asyncio.sleep(0.3)
        recorder.go.set()
        reply = await service.client.await_reply(key, "m", timeout_s=20)
        assert reply.outcome in ("cancelled", "answered")
        await lives(service, key)


async def test_a_cancelled_workflow_closes_its_turn_and_ends(service: Service) -> None:
    key = fresh_key()
    await service.client.send(key, "run sleep 60", id="m")
    await service.until(key, lambda status: status.tools)
    handle = service.temporal.get_workflow_handle(workflow_id(key))
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as ended:
        await asyncio.wait_for(handle.result(), 20)
    assert isinstance(ended.value.cause, CancelledError)
    check_transcript(service.lines(key))
    assert service.lines(key)[-1]["event"] == "ended"
    await lives(service, key)

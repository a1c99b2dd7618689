"""More messages than anybody should send: nothing is lost, order is kept, no run grows without bound."""

import asyncio
import time
from typing import Any

from agent_session.domain.state import SessionState
from agent_session.domain.wire import encoded_bytes, from_wire
from tests.support import Service, check_transcript, decoded, fresh_key


async def send_all(service: Service, key: str, texts: list[str], mode: str = "collect", at_once: int = 24) -> None:
    """As fast as possible, at most `at_once` in flight, ids by number."""
    gate = asyncio.Semaphore(at_once)

    async def one(number: int, text: str) -> None:
        async with gate:
            await service.client.send(key, text, id=str(number), mode=mode, timeout_s=300)

    await asyncio.gather(*(one(number, text) for number, text in enumerate(texts)))


async def all_answered(service: Service, key: str, count: int, timeout_s: float) -> None:
    """Every message was taken in by exactly one turn, and each turn ended."""
    await service.until(key, lambda status: status.state == "idle" and not status.queue, timeout_s)
    lines = service.lines(key)
    check_transcript(lines)
    said = [line["id"] for line in lines if line["role"] == "user"]
    assert len(said) == len(set(said)) == count


async def report(service: Service, key: str, name: str, began: float) -> None:
    runs = await service.runs(key)
    sizes = [len(await service.events(key, run)) for run in runs]
    states = [s for run in runs for s in carried_states(await service.events(key, run))]
    print(
        f"\n{name}: {time.monotonic() - began:.0f} s, {len(runs)} runs, longest {max(sizes)} events, "
        f"largest carried state {max([encoded_bytes(s) for s in states] or [0])} B"
    )
    assert all(encoded_bytes(state) <= 512 * 1024 for state in states)
    assert all(from_wire(SessionState, state).key == key for state in states)


def carried_states(events: list[Any]) -> list[Any]:
    import orjson

    found = []
    for event in events:
        if event.HasField("workflow_execution_continued_as_new_event_attributes"):
            attributes = event.workflow_execution_continued_as_new_event_attributes
            found.append(orjson.loads(attributes.input.payloads[0].data))
    return found


async def test_500_followups_are_answered_in_order(service: Service) -> None:
    key, began = fresh_key("followups"), time.monotonic()
    for number in range(500):
        await service.client.send(key, f"remember {number}", id=str(number), mode="followup")
    await all_answered(service, key, 500, 180)
    assert service.said(key) == [f"remember {number}" for number in range(500)]
    for run in await service.runs(key):
        assert len(await service.events(key, run)) < 4_500
    assert (await service.until(key, lambda status: status.turns == 500)).roll_overs >= 9
    await report(service, key, "500 followups", began)


async def test_9000_messages_during_one_long_tool_call(service: Service) -> None:
    key, began = fresh_key("flood"), time.monotonic()
    await service.client.send(key, "run while [ ! -e go ]; do sleep 0.2; done", id="slow")
    await service.until(key, lambda status: status.tools)
    await send_all(service, key, [f"{number:05} " + "x" * 1500 for number in range(9_000)])
    await service.until(key, lambda status: status.queue == 9_000)
    (service.volume.path_of(key) / "workspace" / "go").touch()
    await all_answered(service, key, 9_001, 400)
    await report(service, key, "9,000 of 1.5 KiB", began)


async def test_1600_messages_of_32_kib_during_one_tool_call(service: Service) -> None:
    key, began = fresh_key("large"), time.monotonic()
    await service.client.send(key, "run while [ ! -e go ]; do sleep 0.2; done", id="slow")
    await service.until(key, lambda status: status.tools)
    await send_all(service, key, [f"{number:05} " + "y" * 32_768 for number in range(1_600)])
    (service.volume.path_of(key) / "workspace" / "go").touch()
    await all_answered(service, key, 1_601, 200)
    text = "".join(decoded(event) for event in await service.events(key))
    assert "y" * 3_000 not in text
    await report(service, key, "1,600 of 32 KiB", began)


async def test_800_in_one_collect_backlog(service: Service) -> None:
    key, began = fresh_key("backlog"), time.monotonic()
    await service.client.send(key, "run while [ ! -e go ]; do sleep 0.2; done", id="slow")
    await service.until(key, lambda status: status.tools)
    await send_all(service, key, [f"{number:04} " + "z" * 1_600 for number in range(800)], at_once=1)
    (service.volume.path_of(key) / "workspace" / "go").touch()
    await all_answered(service, key, 801, 120)
    numbers = [int(text[:4]) for text in service.said(key)[1:]]
    assert numbers == list(range(800))
    turns = {line["turn"] for line in service.lines(key)}
    assert len(turns) <= 40  # 64 KiB a batch
    await report(service, key, "800 in one backlog", began)

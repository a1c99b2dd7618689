"""I1: no message lost, none answered twice."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from agent_session.client import NoSuchSession
from agent_session.domain.authority import sign_message
from agent_session.domain.ids import workflow_id
from agent_session.domain.messages import InboundMessage
from agent_session.domain.wire import to_wire
from tests.support import Service, check_transcript, fresh_key


async def test_the_same_id_sent_ten_times_in_parallel_is_one_turn(service: Service) -> None:
    key = fresh_key()
    await asyncio.gather(*(service.client.send(key, "remember once", id="same") for _ in range(10)))
    replies = await asyncio.gather(*(service.client.await_reply(key, "same") for _ in range(10)))
    assert len({reply.turn for reply in replies}) == 1
    assert service.said(key) == ["remember once"]


async def test_the_same_id_across_a_roll_over_is_one_turn(service: Service) -> None:
    key = fresh_key()
    first = await service.ask(key, "remember once", id="same")
    await service.client.roll_over(key)
    await service.until(key, lambda status: status.roll_overs == 1)
    again = await service.ask(key, "remember once", id="same")
    assert again == first
    await service.ask(key, "what did I say?")
    assert service.said(key) == ["remember once", "what did I say?"]


async def test_the_same_id_from_another_person_is_another_message(service: Service) -> None:
    key = fresh_key()
    await service.ask(key, "remember mine", id="same")
    other = type(service.client)(service.temporal, service.settings, channel="test", principal="slack:U2")
    reply = await other.ask(key, "remember theirs", id="same", timeout_s=30)
    assert "theirs" in reply.text


async def test_a_waiter_survives_a_roll_over_in_the_middle_of_its_turn(service: Service) -> None:
    key = fresh_key()
    gate = service.gate()
    await service.client.send(key, f"run {gate.command} && echo done", id="m")
    await service.until(key, lambda status: status.tools)
    waiter = asyncio.create_task(service.client.await_reply(key, "m"))
    await service.client.roll_over(key)
    gate.open()
    assert (await waiter).text == "done"
    status = await service.until(key, lambda status: status.turns == 1)
    assert status.roll_overs == 1
    check_transcript(service.lines(key))


async def test_a_session_rolls_over_after_the_set_number_of_turns(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service(session={"turns_per_run": 3})
    async with service.worker():
        key = fresh_key()
        for number in range(8):
            await service.ask(key, f"remember {number}")
        status = await service.until(key, lambda status: status.turns == 8)
    assert (status.roll_overs, status.turns, status.turns_in_run) == (2, 8, 2)
    check_transcript(service.lines(key))


async def test_followups_sent_as_fast_as_possible_are_all_answered_in_order(service: Service) -> None:
    key, count = fresh_key(), 120
    for number in range(count):
        await service.client.send(key, f"remember {number}", id=str(number), mode="followup")
    replies = await asyncio.gather(*(service.client.await_reply(key, str(number)) for number in range(count)))
    assert [reply.text for reply in replies] == [f"I will remember: {number}" for number in range(count)]
    assert service.said(key) == [f"remember {number}" for number in range(count)]
    assert (await service.until(key, lambda status: status.turns == count)).roll_overs >= 2
    for run in await service.runs(key):
        assert len(await service.events(key, run)) < 4_096
    check_transcript(service.lines(key))


async def test_old_replies_give_outcome_and_text_from_the_transcript(service: Service) -> None:
    key = fresh_key()
    for number in range(25):
        await service.ask(key, f"remember {number}", id=str(number))
    assert (await service.client.await_reply(key, "0", timeout_s=5)).text == "I will remember: 0"


async def test_a_reply_over_8_kib_goes_by_reference(service: Service) -> None:
    key = fresh_key()
    reply = await service.ask(key, "run seq 1 5000")
    assert reply.text.splitlines() == [str(number) for number in range(1, 5001)] or "left out" in reply.text
    assert len(reply.text) > 8 * 1024
    assert "\n4242\n" not in "".join(map(str, await service.events(key)))


async def test_a_closed_session_answers_late_waiters_and_starts_again(service: Service) -> None:
    key = fresh_key()
    first = await service.ask(key, "remember before", id="before")
    await service.client.close(key)
    handle: WorkflowHandle[Any, Any] = service.temporal.get_workflow_handle(workflow_id(key))
    await asyncio.wait_for(handle.result(), 20)
    assert await service.client.await_reply(key, "before", timeout_s=10) == first
    assert "before" in (await service.ask(key, "what did I say?")).text


async def test_a_message_sent_with_close_is_still_answered(service: Service) -> None:
    key = fresh_key()
    await service.ask(key, "hello")
    for number in range(5):
        with contextlib.suppress(NoSuchSession):  # it may have closed between two messages already
            await service.client.close(key)
        assert (await service.ask(key, f"remember {number}")).ok


@pytest.mark.parametrize(
    "raw",
    ["not a mapping", 7, None, {"id": "m", "channel": "test"}, {"id": "m", "channel": "test", "text": [1]}, [], {}],
)
async def test_a_signal_that_cannot_be_read_is_answered_and_not_dropped(service: Service, raw: object) -> None:
    key = fresh_key()
    await service.ask(key, "hello")
    handle = service.temporal.get_workflow_handle(workflow_id(key))
    await handle.signal("receive", raw)
    await service.until(key, lambda status: status.last_outcome == "failed")
    last = await handle.query("last_reply")
    assert "could not read" in last["text"]
    assert (await service.ask(key, "remember that it lives")).ok


async def test_signals_with_wrong_arguments_or_unknown_names_wedge_nothing(service: Service) -> None:
    key = fresh_key()
    await service.ask(key, "hello")
    handle = service.temporal.get_workflow_handle(workflow_id(key))
    for name in ("receive", "cancel_turn", "resolve_approval", "roll_over", "no_such_signal"):
        await handle.signal(name)
        await handle.signal(name, args=[1, 2, 3])
    assert (await service.ask(key, "remember that it lives")).ok


async def test_a_newer_clients_unknown_words_read_as_the_default(service: Service) -> None:
    key = fresh_key()
    message = InboundMessage(id="m", channel="test", text="remember tomorrow", principal=service.client.principal)
    signed = to_wire(sign_message(service.volume.signing_key(), key, message))
    raw = {**signed, "mode": "telepathy", "kind": "angel", "colour": "blue"}
    await service.signal(key, raw)
    assert (await service.client.await_reply(key, "m")).text == "I will remember: tomorrow"

"""I2, I3: Temporal's event history stays small and flat, and holds no secret and no transcript."""

import asyncio
from collections.abc import Callable
from typing import Any

from agent_session.domain.ids import workflow_id
from tests.support import Service, decoded, fresh_key

CANARY = "canary-7f3e"


async def test_a_plain_turn_costs_the_same_from_the_first_to_the_199th(service: Service, capsys: Any) -> None:
    key = fresh_key()
    await service.ask(key, "remember 0")
    sizes: dict[int, tuple[int, int]] = {}
    for number in range(1, 198):
        await service.ask(key, f"remember {number:05}")
        if number in (1, 2, 195, 196, 197):
            await service.until(key, lambda status: status.state == "idle")  # the reply is there before that
            events = await service.events(key)
            sizes[number] = len(events), sum(event.ByteSize() for event in events)
    per_turn = [(e2 - e1, b2 - b1) for (e1, b1), (e2, b2) in ((sizes[1], sizes[2]), (sizes[196], sizes[197]))]
    with capsys.disabled():
        print(f"\nevents and bytes of history per plain turn: turn 2 {per_turn[0]}, turn 198 {per_turn[1]}")
    assert all(events <= 11 and size <= 2 * 1024 for events, size in per_turn)
    assert abs(per_turn[0][1] - per_turn[1][1]) < 200


async def test_no_argument_output_or_earlier_word_passes_through_temporal(service: Service) -> None:
    key = fresh_key()
    await service.ask(key, "write notes.txt " + CANARY)
    for number in range(4):
        await service.ask(key, f"remember {number}")
    await service.ask(key, "run cat notes.txt | tr a-z A-Z | head -c 3; seq 1 4000 | sed 's/$/-output/' > big; cat big")
    events = [event for run in await service.runs(key) for event in await service.events(key, run)]
    texts = [decoded(event) for event in events]
    inputs = [text for text in texts if CANARY in text]
    assert len(inputs) <= 2, "only the signal that brought it and the step that took it in"
    assert not any("3999-output" in text for text in texts)
    assert not any(
        "tr a-z" in text
        for text in texts[texts.index(inputs[-1]) + 1 :]
        if "llm_chat" not in text and "receive" not in text
    )
    assert max(event.ByteSize() for event in events) < 12 * 1024


async def test_no_key_or_token_is_in_any_history(make_service: Callable[..., Any], monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("SOME_TOKEN", CANARY)
    service: Service = await make_service(model={"name": "offline"})
    async with service.worker("file"):
        key = fresh_key()
        await service.ask(key, "run env; cat /proc/self/environ", reply_address="file:out")
        await service.client.send(key, "call nothing {", id="bad")
        await service.client.await_reply(key, "bad")
        await service.until(key, lambda status: not status.deliveries)
        secret = service.volume.signing_key().decode()
        for run in await service.runs(key):
            text = "\n".join(decoded(event) for event in await service.events(key, run))
            assert CANARY not in text
            assert secret not in text
        assert CANARY not in str(service.lines(key))


async def test_a_failure_carries_its_class_and_id_and_no_words(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service(volume={"patience_s": 1})
    async with service.worker() as services:

        async def explode(*_: Any, **__: Any) -> Any:
            raise RuntimeError(f"the prompt was {CANARY}") from ValueError(CANARY)

        services.build_prompt = explode  # type: ignore[assignment]
        key = fresh_key()
        reply = await service.ask(key, "hello")
        assert reply.outcome == "failed"
        assert "internal" not in reply.text
        text = "\n".join(decoded(event) for event in await service.events(key))
        assert CANARY not in text
        assert reply.error_id in text
        failures = [e for e in await service.events(key) if e.HasField("activity_task_failed_event_attributes")]
        assert failures
        assert all(event.activity_task_failed_event_attributes.failure.ByteSize() <= 2048 for event in failures)


async def test_temporals_ui_names_every_step_with_its_correlation_id(service: Service) -> None:
    key = fresh_key()
    reply = await service.ask(key, "run echo x")
    described = await service.temporal.get_workflow_handle(workflow_id(key)).fetch_history()
    summaries = [
        event.user_metadata.summary.data.decode().strip('"')
        for event in described.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert summaries == [f"{reply.turn}/1", f"shell {reply.turn}/1", f"{reply.turn}/2"]
    await asyncio.sleep(0)

"""The plain talk: say something, get an answer, and be remembered."""

import asyncio

import pytest

from agent_session.client import NoSuchMessage, NoSuchSession
from tests.support import Service, check_transcript, fresh_key


async def test_what_was_said_is_remembered_in_the_next_turn(service: Service) -> None:
    key = fresh_key()
    first = await service.ask(key, "remember blue")
    second = await service.ask(key, "what did I say?")
    assert (first.outcome, second.outcome) == ("answered", "answered")
    assert "blue" in second.text
    assert service.said(key) == ["remember blue", "what did I say?"]
    check_transcript(service.lines(key))


async def test_a_tool_call_is_recorded_with_its_start_and_one_result(service: Service) -> None:
    key = fresh_key()
    reply = await service.ask(key, "run echo hello > f && cat f")
    assert reply.text == "hello"
    roles = [line.get("event") or line["role"] for line in service.lines(key)]
    assert roles == ["user", "assistant", "started", "tool", "assistant", "ended"]
    check_transcript(service.lines(key))


async def test_calls_of_one_step_run_in_parallel_and_each_gets_its_result(service: Service) -> None:
    key = fresh_key()
    reply = await service.ask(key, "tools run sleep 1 && echo a; run sleep 1 && echo b; write x.txt hi; read nothing")
    results = {line["name"]: line for line in service.lines(key) if line["role"] == "tool"}
    assert [line["outcome"] for line in service.lines(key) if line["role"] == "tool"].count("ok") == 3
    assert results["read_file"]["outcome"] == "error"
    assert reply.text.splitlines()[:2] == ["a", "b"]
    check_transcript(service.lines(key))


async def test_status_answers_while_a_turn_runs(service: Service) -> None:
    key = fresh_key()
    gate = service.gate()
    await service.client.send(key, f"run {gate.command}", id="m1")
    status = await service.until(key, lambda s: s.tools)
    assert status.state == "running"
    assert status.tools[0].tool == "shell"
    assert status.turn.startswith("t-")
    gate.open()
    assert (await service.client.await_reply(key, "m1")).ok
    after = await service.until(key, lambda s: s.state == "idle")
    assert (after.state, after.turns, after.queue) == ("idle", 1, 0)


async def test_an_unknown_session_and_an_unknown_message_have_names(service: Service) -> None:
    for unknown in (service.client.status("nobody"), service.client.close("nobody"), service.client.cancel("nobody")):
        with pytest.raises(NoSuchSession, match="nobody"):
            await unknown
    key = fresh_key()
    await service.ask(key, "hello")
    with pytest.raises(NoSuchMessage):
        await service.client.await_reply(key, "never-sent", timeout_s=5)


async def test_sessions_lists_what_lives(service: Service) -> None:
    key = fresh_key()
    await service.ask(key, "hello")
    async with asyncio.timeout(30):
        while not (found := [row for row in await service.client.sessions() if row.key == key]):
            await asyncio.sleep(0.1)
    assert found[0].running

"""Saying it once: retries of OpenAI's own client and of others, cut connections, a gateway that dies."""

import asyncio
import time
from typing import Any

import openai
import pytest

from tests.gateway.openai_support import (
    Cutter,
    chat,
    client,
    port_of,
    raw,
    transcripts,
    user,
)
from tests.gateway.support import Door, door
from tests.support import Service, fresh_key


@pytest.mark.parametrize("cut", ["request", "answer"])
@pytest.mark.parametrize("named", [False, True])
async def test_a_cut_connection_is_retried_by_the_client_and_answered_once(
    gateway: Door, cut: str, named: bool
) -> None:
    """I1: OpenAI's client sends again by itself; the turn runs once, whether it still ran or had ended."""
    async with Cutter(port_of(gateway), cut).open() as proxy:
        own = client(gateway, retries=2, url=proxy.url)
        session: Any = {"user": fresh_key()} if named else {}
        asked = asyncio.create_task(
            own.chat.completions.create(
                model="m", messages=[user("run echo once >> ran; sleep 0.5; cat ran")], **session
            )
        )
        async with asyncio.timeout(20):
            while not (keys := [row.key async for row in transcripts(gateway)]):
                await asyncio.sleep(0.02)
        proxy.reached.set()
        made = await asked
    assert proxy.cuts == 2
    assert made.choices[0].message.content == "once"
    assert len(keys) == len([row async for row in transcripts(gateway)]) == 1
    assert len(gateway.service.said(keys[0])) == 1


@pytest.mark.parametrize("named", [False, True])
async def test_another_gateway_answers_the_retry_of_what_one_that_died_took(service: Service, named: bool) -> None:
    how: Any = {"model": "m", "messages": [user("run echo once >> ran; cat ran")]}
    how |= {"user": fresh_key()} if named else {}
    async with door(service) as first:
        before = await client(first).chat.completions.create(**how)
    async with door(service) as second:
        retried = {"X-Stainless-Retry-Count": "1"}
        again = await client(second).chat.completions.create(**how, extra_headers=retried)
        anew = await client(second).chat.completions.create(**how)
    assert (again.id, again.choices[0].message.content) == (before.id, "once")
    assert anew.id != before.id


async def test_a_retry_in_the_next_half_hour_is_still_a_retry(gateway: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half hours are four seconds long here: one message is retried into the second one, where the same words later
    are a new message, and are retried, too."""
    monkeypatch.setattr("agent_session.gateway.openai_names.BUCKET_S", 4)
    key = fresh_key()

    async def ask(retry: int) -> str:
        return str((await raw(gateway, key, "continue", headers={"X-Stainless-Retry-Count": str(retry)})).json["id"])

    begins = time.time() // 4
    first = await ask(0)
    while time.time() // 4 == begins:
        assert await ask(1) == first
    second = await ask(0)
    assert await ask(1) == second != first
    assert len(gateway.service.said(key)) == 2


async def test_the_same_at_the_same_time_is_one_message(gateway: Door) -> None:
    key = fresh_key()
    answers = await asyncio.gather(*(chat(gateway, key, "run echo x >> ran; sleep 1.5; cat ran") for _ in range(4)))
    assert answers == ["x"] * 4
    assert len(gateway.service.said(key)) == 1


async def test_the_same_words_later_are_a_new_message(gateway: Door) -> None:
    """Also from a client that always sends just one message, and also from one that tells nothing of retries."""
    key = fresh_key()
    for _ in range(3):
        await chat(gateway, key, "continue")
    await chat(gateway, key, "hello", "continue")
    assert len(gateway.service.said(key)) == 4
    for _ in range(2):
        assert (await raw(gateway, key, "continue")).status == 200
    assert len(gateway.service.said(key)) == 6


async def test_an_answer_that_nobody_got_waits_for_the_same_words(gateway: Door) -> None:
    key, gate, tells = fresh_key(), gateway.service.gate(), {"X-Stainless-Retry-Count": "0"}
    body = {"model": "x", "user": key, "messages": [user(f"run {gate.command}; echo late >> ran; cat ran")]}
    asked = asyncio.create_task(gateway.post("/v1/chat/completions", json=body, headers=tells))
    async with asyncio.timeout(30):
        while not any(line.get("event") == "started" for line in gateway.service.lines(key)):
            await asyncio.sleep(0.05)
        asked.cancel()
        while 'route="/v1/chat/completions",status="499"' not in (await gateway.get("/metrics", token="")).raw.decode():
            await asyncio.sleep(0.05)
    gate.open()
    async with asyncio.timeout(20):
        while not any(line.get("event") == "ended" for line in gateway.service.lines(key)):
            await asyncio.sleep(0.05)
    got = await gateway.post("/v1/chat/completions", json=body, headers=tells)
    assert got.json["choices"][0]["message"]["content"] == "late"
    assert len(gateway.service.said(key)) == 1


async def test_a_client_that_never_tells_is_believed_to_retry_at_a_gateway_that_knows_nothing(service: Service) -> None:
    key = fresh_key()
    async with door(service) as first:
        before = await raw(first, key, "continue")
    async with door(service) as second:
        again = await raw(second, key, "continue")
        anew = await raw(second, key, "continue")
    assert again.json["id"] == before.json["id"] != anew.json["id"]
    assert len(service.said(key)) == 2


async def test_an_idempotency_key_is_the_messages_id_at_every_door(gateway: Door) -> None:
    key, named = fresh_key(), {"Idempotency-Key": "m-1"}
    first = await chat(gateway, key, "hello", extra_headers=named)
    assert await chat(gateway, key, "hello", extra_headers=named) == first
    assert (await gateway.say(key, "hello", headers=named)).json["text"] == first
    assert len(gateway.service.said(key)) == 1
    with pytest.raises(openai.UnprocessableEntityError, match="another message"):
        await chat(gateway, key, "something else", extra_headers=named)
    once = [await raw(gateway, "", "hello", headers={"Idempotency-Key": "m-2"}) for _ in range(2)]
    assert once[0].json["id"] == once[1].json["id"]


async def test_a_command_said_twice_is_done_twice(gateway: Door) -> None:
    key = fresh_key()
    await chat(gateway, key, "hello")
    before = await chat(gateway, key, "/status")
    await chat(gateway, key, "hello again")
    after = await chat(gateway, key, "/status")
    assert before != after

"""One message, one story: seen by a real OTLP receiver, over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_session.client import SessionClient
from agent_session.connection import connect
from agent_session.operations import load_services
from agent_session.settings import BadSettings
from agent_session.telemetry import spans
from agent_session.telemetry.otlp_metrics import keep_exporting
from agent_session.worker import channel_worker, session_worker
from channels import load_channel
from tests.gateway.support import door
from tests.observability.support import Received, attributes, otlp_receiver
from tests.support import Service, fresh_key


@asynccontextmanager
async def traced(make_service: Callable[..., Any], **more: Any) -> AsyncIterator[tuple[Service, Received]]:
    """A service whose processes trace; flushed at the end."""
    async with otlp_receiver() as received:
        service: Service = await make_service(telemetry={"otlp_endpoint": received.endpoint}, **more)
        client = await connect(service.settings)
        channel = channel_worker(client, load_channel("file", service.settings), service.settings)
        async with session_worker(client, load_services(service.settings)), channel:
            service.client = SessionClient(client, service.settings, channel="test", principal="alice")
            yield service, received


async def flushed(received: Received) -> Received:
    assert spans._one is not None
    await asyncio.to_thread(spans._one.provider.force_flush)
    return received


async def until(received: Received, beginning: str, count: int) -> list[Any]:
    async with asyncio.timeout(20):
        while len((await flushed(received)).named(beginning)) < count:
            await asyncio.sleep(0.05)
    return received.named(beginning)


@pytest.fixture
async def story(make_service: Callable[..., Any], tmp_path: Path) -> AsyncIterator[tuple[str, Received]]:
    """A message that a tool call and a delivery follow."""
    async with traced(make_service) as (service, received):
        key = fresh_key("canary")
        await service.ask(key, "write canary.txt canary-words", reply_address="file:canary", sender="Canary Name")
        await until(received, "deliver", 1)
        await until(received, "invoke_agent", 1)
        yield key, received


async def test_message_turn_model_tool_and_delivery_are_one_trace(story: tuple[str, Received]) -> None:
    _, received = story
    (message,), (turn,) = received.named("message"), received.named("invoke_agent")
    models, tools, posts = received.named("chat"), received.named("execute_tool"), received.named("deliver")
    attempts = {one.span_id: one for one in received.named("attempt")}
    assert (len(models), len(tools), len(posts)) == (2, 1, 1)
    assert {one.trace_id for one in received.spans} == {message.trace_id}
    assert turn.parent_span_id == message.span_id
    assert message.parent_span_id == b""
    for one in (*models, *tools, *posts):
        assert attempts[one.parent_span_id].parent_span_id == turn.span_id
    assert turn.start_time_unix_nano <= min(one.start_time_unix_nano for one in models)
    assert turn.end_time_unix_nano >= max(one.end_time_unix_nano for one in models)
    assert received.resources[0]["service.name"] == "agent-session"


async def test_spans_speak_opentelemetrys_words_for_generative_ai(story: tuple[str, Received]) -> None:
    key, received = story
    chat, tool = attributes(received.named("chat")[0]), attributes(received.named("execute_tool")[0])
    turn, post = attributes(received.named("invoke_agent")[0]), attributes(received.named("deliver")[0])
    asked = ("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model")
    assert [chat[name] for name in asked] == ["chat", "offline", "offline"]
    assert chat["gen_ai.usage.input_tokens"] > 0
    reasons = [attributes(one)["gen_ai.response.finish_reasons"] for one in received.named("chat")]
    assert reasons == [["tool_call"], ["stop"]]
    assert (tool["gen_ai.operation.name"], tool["gen_ai.tool.name"]) == ("execute_tool", "write_file")
    assert tool["agent_session.outcome"] == "ok"
    assert (turn["gen_ai.operation.name"], turn["agent_session.outcome"]) == ("invoke_agent", "answered")
    assert [turn[name] for name in asked] == ["invoke_agent", "offline", "offline"]
    assert turn["gen_ai.usage.input_tokens"] >= chat["gen_ai.usage.input_tokens"]
    assert turn["gen_ai.conversation.id"] == spans.conversation_of(key)
    assert post["agent_session.channel"] == "file"


async def test_no_word_argument_key_or_name_is_in_a_trace(story: tuple[str, Received]) -> None:
    key, received = story
    sent = b"".join(received.raw).lower()
    assert b"execute_tool write_file" in sent
    for secret in ("canary", key, "alice", "traceback"):
        assert secret.lower().encode() not in sent, secret


async def test_a_turn_that_is_cancelled_says_so_and_its_request_is_an_error(make_service: Callable[..., Any]) -> None:
    async with traced(make_service) as (service, received):
        key = fresh_key()
        async with asyncio.timeout(30):
            reply = await service.ask(key, "call write_file {}", id="a")
            assert reply.ok, "the model is told of its tool's error"
        await until(received, "invoke_agent", 1)
        await service.client.send(key, "sleep 30", id="b")
        await service.until(key, lambda status: status.state == "running")
        await service.client.cancel(key)
        await service.client.await_reply(key, "b", timeout_s=30)
        turns = await until(received, "invoke_agent", 2)
    assert [attributes(one)["agent_session.outcome"] for one in turns] == ["answered", "cancelled"]
    assert [attributes(one)["gen_ai.provider.name"] for one in turns] == ["offline", "offline"]
    cancelled = [one for one in received.named("chat") if one.status.code == 2]
    assert [attributes(one)["error.type"] for one in cancelled] == ["CancelledError"]


async def test_messages_that_share_a_turn_are_linked(make_service: Callable[..., Any]) -> None:
    async with traced(make_service) as (service, received):
        key = fresh_key()
        await service.client.send(key, "sleep 1", id="a")
        await service.until(key, lambda status: status.state == "running")
        await asyncio.gather(*(service.client.send(key, f"remember {n}", id=f"b{n}") for n in range(3)))
        await service.client.await_reply(key, "b2", timeout_s=30)
        turns = await until(received, "invoke_agent", 2)
    messages = {one.span_id for one in received.named("message")}
    second = max(turns, key=lambda one: one.start_time_unix_nano)
    linked = {one.span_id for one in second.links}
    assert len(messages) == 4
    assert len(linked) == 2
    assert {second.parent_span_id, *linked} < messages


async def test_a_turn_that_rolls_over_keeps_its_story(make_service: Callable[..., Any]) -> None:
    async with traced(make_service, tools={"ask": ["write_file"]}) as (service, received):
        key = fresh_key()
        await service.client.send(key, "write a.txt words", id="a")
        status = await service.until(key, lambda status: status.state == "waiting approval")
        (call,) = service.client.waiting_calls(key, status)
        await service.client.roll_over(key)
        await service.until(key, lambda status: status.roll_overs == 1 and status.state == "waiting approval")
        await service.client.resolve(key, call["call"], call["digest"], "allow")
        await service.client.await_reply(key, "a", timeout_s=30)
        (turn,) = await until(received, "invoke_agent", 1)
        await flushed(received)
    (message,) = received.named("message")
    assert turn.parent_span_id == message.span_id
    (tool,) = received.named("execute_tool")
    assert tool.trace_id == message.trace_id


async def test_without_an_endpoint_a_signal_carries_a_time_and_nothing_else(service: Service) -> None:
    key = fresh_key()
    await service.ask(key, "hello")
    events = await service.events(key)
    (signal,) = [one for one in events if one.HasField("workflow_execution_signaled_event_attributes")]
    fields = signal.workflow_execution_signaled_event_attributes.header.fields
    assert list(fields) == ["agent-session"]
    assert fields["agent-session"].data.startswith(b'{"ms":1')
    assert len(fields["agent-session"].data) < 24
    scheduled = [one.activity_task_scheduled_event_attributes for one in events]
    assert not any(one.header.fields for one in scheduled)


async def test_metrics_go_over_otlp_too(make_service: Callable[..., Any]) -> None:
    async with traced(make_service) as (service, received):
        await service.ask(fresh_key(), "remember this")
        exporting = asyncio.create_task(keep_exporting(received.endpoint, every_s=0.1))
        async with asyncio.timeout(20):
            while "agent_session_time_to_first_token_seconds" not in received.metrics:
                await asyncio.sleep(0.05)
        exporting.cancel()
    first = received.metrics["agent_session_time_to_first_token_seconds"]
    point = first.histogram.data_points[0]
    assert point.count == sum(point.bucket_counts) >= 1
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert (first.unit, first.histogram.aggregation_temporality) == ("s", 2)
    assert received.metrics["agent_session_tokens"].sum.is_monotonic


async def test_what_a_gateway_counts_goes_over_otlp_too(make_service: Callable[..., Any]) -> None:
    async with traced(make_service) as (service, received), door(service) as opened:
        await opened.get("/v1/sessions")
        exporting = asyncio.create_task(keep_exporting(received.endpoint, every_s=0.1))
        async with asyncio.timeout(20):
            while "agent_session_http_requests" not in received.metrics:
                await asyncio.sleep(0.05)
        exporting.cancel()
    rows = [attributes(one) for one in received.metrics["agent_session_http_requests"].sum.data_points]
    assert {"route": "/v1/sessions", "method": "GET", "status": "200"} in rows
    assert "agent_session_http_request_duration_seconds" in received.metrics


async def test_an_endpoint_without_the_library_is_a_clear_error(
    make_service: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    service: Service = await make_service()
    settings = service.settings.model_copy(
        update={"telemetry": service.settings.telemetry.model_copy(update={"otlp_endpoint": "http://127.0.0.1:9"})}
    )

    def missing(endpoint: str) -> Any:
        raise ImportError

    monkeypatch.setattr(spans, "_made", missing)
    with pytest.raises(BadSettings, match=r"pip install 'agent-session\[otel\]'"):
        spans.set_up(settings)


async def test_a_request_to_the_gateway_goes_on_with_its_callers_trace(make_service: Callable[..., Any]) -> None:
    trace, span = "ab" * 16, "cd" * 8
    async with traced(make_service) as (service, received):
        async with door(service) as opened:
            said = await opened.say(fresh_key(), "hello", headers={"traceparent": f"00-{trace}-{span}-01"})
        assert said.status == 200
        (turn,) = await until(received, "invoke_agent", 1)
        (message,) = received.named("message http")
    assert (message.trace_id.hex(), message.parent_span_id.hex()) == (trace, span)
    assert (turn.trace_id.hex(), turn.parent_span_id) == (trace, message.span_id)

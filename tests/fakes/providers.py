"""Model providers as real HTTP servers, spoken to by the vendors' own SDKs: OpenAI's chat completions
and Anthropic's messages, streamed. Each request takes the next step of a script."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Step = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


class FakeProvider:
    """Answers by script; the last step repeats. Remembers what was asked."""

    def __init__(self) -> None:
        self.script: list[Step] = []
        self.requests: list[dict[str, Any]] = []
        self.url = ""

    def will(self, *steps: Step) -> None:
        self.script = list(steps)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await step(request, body)


@asynccontextmanager
async def fake_provider() -> AsyncIterator[FakeProvider]:
    provider = FakeProvider()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", provider.handle)
    app.router.add_post("/v1/responses", provider.handle)
    app.router.add_post("/v1/messages", provider.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    provider.url = f"http://127.0.0.1:{port}"
    try:
        yield provider
    finally:
        await runner.cleanup()


async def _stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


def _chunk(delta: dict[str, Any], finish: str | None = None, usage: dict[str, Any] | None = None) -> bytes:
    body: dict[str, Any] = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "fake",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    if usage:
        body |= {"choices": [], "usage": usage}
    return f"data: {json.dumps(body)}\n\n".encode()


def says(text: str, pieces: int = 3, cached: int = 0) -> Step:
    """An OpenAI answer, streamed in pieces; `cached` of its 11 prompt tokens come from the cache."""

    async def step(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await _stream(request)
        size = max(1, len(text) // pieces)
        for start in range(0, len(text), size):
            await response.write(_chunk({"role": "assistant", "content": text[start : start + size]}))
        await response.write(_chunk({}, "stop"))
        usage: dict[str, Any] = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        await response.write(_chunk({}, usage=usage | {"prompt_tokens_details": {"cached_tokens": cached}}))
        await response.write(b"data: [DONE]\n\n")
        return response

    return step


def calls(*requested: tuple[str, str], text: str = "") -> Step:
    """OpenAI tool calls: (name, arguments as JSON text)."""

    async def step(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await _stream(request)
        delta: dict[str, Any] = {"role": "assistant", "content": text or None}
        delta["tool_calls"] = [
            {"index": n, "id": f"same-id-{n}", "type": "function", "function": {"name": name, "arguments": args}}
            for n, (name, args) in enumerate(requested)
        ]
        await response.write(_chunk(delta))
        await response.write(_chunk({}, "tool_calls"))
        await response.write(b"data: [DONE]\n\n")
        return response

    return step


def fails(status: int, body: Any = None, **headers: str) -> Step:
    async def step(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        error = body if body is not None else {"error": {"message": "scripted", "type": "scripted"}}
        return web.json_response(error, status=status, headers=headers)

    return step


def breaks_after(text: str) -> Step:
    """Half a stream, then the connection is cut."""

    async def step(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await _stream(request)
        await response.write(_chunk({"role": "assistant", "content": text}))
        assert request.transport is not None
        request.transport.abort()
        return response

    return step


def filtered() -> Step:
    """The provider's content filter stops the answer before its first word."""

    async def step(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await _stream(request)
        await response.write(_chunk({"role": "assistant", "content": ""}))
        await response.write(_chunk({}, "content_filter"))
        await response.write(b"data: [DONE]\n\n")
        return response

    return step


def hangs(seconds: float = 60) -> Step:
    async def step(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.json_response({})

    return step


def garbage() -> Step:
    async def step(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(text="data: {not json\n\ndata: [DONE]\n\n", content_type="text/event-stream")

    return step


def anthropic(*blocks: dict[str, Any], **more_usage: int) -> Step:
    """An Anthropic answer of text, thinking and tool_use blocks, streamed by its event protocol."""

    async def step(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = await _stream(request)

        async def send(kind: str, **data: Any) -> None:
            await response.write(f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n".encode())

        usage = {"input_tokens": 5, "output_tokens": 1, **more_usage}
        message = {"id": "m1", "type": "message", "role": "assistant", "model": "fake", "content": [], "usage": usage}
        await send("message_start", message={**message, "stop_reason": None, "stop_sequence": None})
        for index, block in enumerate(blocks):
            kind = block["type"]
            start = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
            await send("content_block_start", index=index, content_block={**block, **start[kind]})
            if kind == "text":
                await send("content_block_delta", index=index, delta={"type": "text_delta", "text": block["text"]})
            elif kind == "thinking":
                delta = {"type": "thinking_delta", "thinking": block["thinking"]}
                await send("content_block_delta", index=index, delta=delta)
                delta = {"type": "signature_delta", "signature": block["signature"]}
                await send("content_block_delta", index=index, delta=delta)
            else:
                delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
                await send("content_block_delta", index=index, delta=delta)
            await send("content_block_stop", index=index)
        stop = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
        await send("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage={"output_tokens": 9})
        await send("message_stop")
        return response

    return step

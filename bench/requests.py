"""One request to a provider, through the provider's own client: from the prompt to the whole answer, with a talk of
10 and of 400 messages. The provider is a server on this machine that answers at once; the floor is the same bytes
posted as they are. A worker's sessions share one event loop: what one request holds it up, all wait for."""

import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
from aiohttp import ClientSession, web

from agent_session.models.base import Line, Prompt, ToolSpec
from agent_session.models.providers import ProviderBackedModel
from agent_session.settings import load_settings
from bench.numbers import Metric, median
from bench.world import World

TALKS = (10, 400)
FIELD = {"type": "string", "description": "what it is"}
TOOLS = [
    ToolSpec(f"tool_{n}", "Does it.", {"type": "object", "properties": dict.fromkeys("abcd", FIELD)}) for n in range(10)
]
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
ANSWER = [
    CHUNK | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Yes."}}]},
    CHUNK | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    CHUNK | {"choices": [], "usage": USAGE},
]


class Provider:
    """Speaks OpenAI's chat completions; remembers the last request's bytes."""

    asked = b""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked = await request.read()
        events = b"".join(b"data: %b\n\n" % orjson.dumps(one) for one in ANSWER)
        return web.Response(body=events + b"data: [DONE]\n\n", content_type="text/event-stream")


@asynccontextmanager
async def serving(provider: Provider) -> AsyncGenerator[str]:
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/v1/chat/completions", provider.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def talk(messages: int) -> list[Line]:
    """Of turns with one call each."""
    lines: list[Line] = []
    for n in range(messages // 4 + 1):
        call = {"id": f"call-{n}", "name": "tool_1", "args": '{"a": "b"}'}
        lines += [
            {"role": "user", "turn": f"t-{n}", "content": f"Do the next thing, number {n}."},
            {"role": "assistant", "turn": f"t-{n}", "step": 1, "content": "", "tool_calls": [call]},
            {"role": "tool", "turn": f"t-{n}", "call": call["id"], "outcome": "ok", "content": "it is done\n" * 10},
            {"role": "assistant", "turn": f"t-{n}", "step": 2, "content": "That is done."},
        ]
    return [*lines[: messages - 1], {"role": "user", "turn": "last", "content": "And now?"}]


async def measure(world: World, quick: bool) -> list[Metric]:
    os.environ.setdefault("OPENAI_API_KEY", "none is needed here")
    found: list[Metric] = []
    provider = Provider()
    async with serving(provider) as address, ClientSession() as floor:
        name = "openai-chat:bench"
        model = ProviderBackedModel(name, load_settings({"model": {"name": name, "base_url": address}}))
        for messages in TALKS:
            prompt = Prompt("Be brief.", talk(messages), TOOLS, "main", "last", 1, 1)

            async def ask(prompt: Prompt = prompt) -> None:
                await model.answer(prompt, lambda text: None)

            async def post() -> None:
                async with floor.post(f"{address}/chat/completions", data=provider.asked) as response:
                    await response.read()

            ours, theirs = await _in_turn(ask, post, 20 if quick else 100)
            found.append(Metric(f"request.{messages}_messages", ours, "ms", theirs))
    return found


async def _in_turn(
    ask: Callable[[], Awaitable[None]], post: Callable[[], Awaitable[None]], times: int
) -> tuple[float, float]:
    """The median of each, in milliseconds."""
    took: tuple[list[float], list[float]] = ([], [])
    await ask()  # what a process does once
    for _ in range(times):
        for one, kept in zip((ask, post), took, strict=True):
            began = time.perf_counter()
            await one()
            kept.append((time.perf_counter() - began) * 1e3)
    return median(took[0]), median(took[1])

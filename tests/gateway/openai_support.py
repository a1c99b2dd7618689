"""What tests of OpenAI's doors stand on: its own client, a worker whose words stream, a model by script, a proxy that
cuts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from agent_session.operations import Services
from tests.fakes.providers import FakeProvider, fake_provider
from tests.gateway.support import Door
from tests.support import Service, live


def client(gateway: Door, *, token: str = "", retries: int = 0, **how: Any) -> openai.AsyncOpenAI:
    url = how.pop("url", gateway.url)
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=token or gateway.token, max_retries=retries, **how)


def user(text: Any) -> Any:
    return {"role": "user", "content": text}


def image(url: str) -> Any:
    return {"type": "image_url", "image_url": {"url": url}}


async def chat(gateway: Door, key: str, *said: str, **how: Any) -> str:
    """The answer's text; `said`: what the user said, the assistant's answers in between are made up."""
    messages: list[Any] = []
    for one in said:
        messages += [user(one), {"role": "assistant", "content": "…"}]
    made = await client(gateway).chat.completions.create(model="any", user=key, messages=messages[:-1], **how)
    return str(made.choices[0].message.content)


async def streamed(gateway: Door, key: str, text: str, **how: Any) -> list[Any]:
    stream = await client(gateway).chat.completions.create(
        model="any", user=key, messages=[user(text)], stream=True, **how
    )
    return [chunk async for chunk in stream]


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def raw(gateway: Door, key: str, text: str, **how: Any) -> Any:
    """As a client that tells nothing of its retries."""
    return await gateway.post("/v1/chat/completions", json={"model": "x", "user": key, "messages": [user(text)]}, **how)


@asynccontextmanager
async def streaming(service: Service) -> AsyncIterator[Services]:
    """A worker whose live events reach watchers."""
    async with service.worker() as services:
        service.services = services
        async with live(service):
            yield services


async def transcripts(gateway: Door) -> AsyncIterator[Any]:
    for row in await gateway.service.client.sessions(all=True):
        if gateway.service.volume.path_of(row.key).exists():
            yield row


def port_of(gateway: Door) -> int:
    return int(gateway.url.rpartition(":")[2])


class Cutter:
    """A proxy that cuts the connection once the request has gone through, or the answer has begun."""

    def __init__(self, port: int, cut: str) -> None:
        self._port, self._cut, self.cuts = port, cut, 0
        self.reached = asyncio.Event()
        self.url = ""

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Cutter"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._port)
        first = self.cuts == 0
        self.cuts += 1
        if first and self._cut == "request":  # no answer gets through, however soon it is there
            inner_writer.write(await reader.read(64 * 1024))
            await self.reached.wait()
        else:
            back = asyncio.create_task(self._pipe(inner_reader, writer, cut=first and self._cut == "answer"))
            forth = asyncio.create_task(self._pipe(reader, inner_writer))
            await asyncio.wait({back, forth}, return_when=asyncio.FIRST_COMPLETED)
        writer.transport.abort()
        inner_writer.transport.abort()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cut: bool = False) -> None:
        while data := await reader.read(64 * 1024):
            if cut:
                return
            writer.write(data)
            await writer.drain()


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeProvider]:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key")
    async with fake_provider() as made:
        yield made


@pytest.fixture
async def scripted(make_service: Callable[..., Any], provider: FakeProvider) -> Service:
    """A service whose model answers by the provider's script; no worker yet."""
    model = {"name": "openai-chat:fake", "base_url": provider.url + "/v1", "attempts": 3}
    return await make_service(model=model)

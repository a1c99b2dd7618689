"""A load balancer without stickiness: each request goes to the next gateway, over whichever connection it came."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from tests.gateway.support import Door

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclass
class Balancer:
    url: str = ""
    #: how often a gateway (its number) let somebody in with a token
    let_in: Counter[int] = field(default_factory=Counter[int])
    turn: int = 0


@asynccontextmanager
async def balanced(*doors: Door) -> AsyncIterator[Balancer]:
    """In front of these gateways, at a port of its own. Streams go through as they come."""
    found = Balancer()

    async def forward(request: web.Request) -> web.StreamResponse:
        number, found.turn = found.turn % len(doors), found.turn + 1
        url = doors[number].url + request.raw_path
        body = await request.read()
        async with http.request(request.method, url, headers=request.headers, data=body) as answer:
            if answer.status < 300 and "Authorization" in request.headers:
                found.let_in[number] += 1
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            with suppress(aiohttp.ClientPayloadError):  # that gateway ended: so does the stream
                async for piece in answer.content.iter_any():
                    await response.write(piece)
            return response

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{path:.*}", forward)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    async with aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(None)) as http:
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield found
        finally:
            await runner.cleanup()

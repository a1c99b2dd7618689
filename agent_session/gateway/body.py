"""Taking in a request's body: not too large, and not for ever."""

import asyncio
import time

from aiohttp import web

from agent_session.gateway.errors import Problem

BODY_S = 30.0  #: what every body may take; a large one longer, at a rate of
BODY_BYTES_PER_S = 64 * 1024


async def read_body(request: web.Request, limit_bytes: int) -> bytes:
    """The whole body. Errors: Problem 408, 413."""
    if (request.content_length or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    began, taken = time.monotonic(), bytearray()
    try:
        while True:
            left = began + BODY_S + len(taken) / BODY_BYTES_PER_S - time.monotonic()
            async with asyncio.timeout(max(left, 0)):
                piece = await request.content.readany()
            if not piece:
                return bytes(taken)
            taken += piece
            if len(taken) > limit_bytes:
                raise _too_large(limit_bytes)
    except TimeoutError:
        raise Problem(408, "too_slow", "the body came too slowly; send it again") from None


def _too_large(limit_bytes: int) -> Problem:
    return Problem(413, "too_large", f"the body is too large: the limit is {limit_bytes} bytes")

"""A sign of life on standard error for what takes longer than a second. Only on a terminal."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable
from typing import TypeVar

from agent_session.terminal.look import look_of

T = TypeVar("T")

QUIET_S, FRAME_S = 1.0, 0.1
FRAMES, ASCII_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\"


async def with_spinner(what: str, work: Awaitable[T]) -> T:
    """Await `work`; after a second say what is being waited for, and take that away in the end."""
    look = look_of(os.environ, sys.stderr.encoding or "ascii", tty=sys.stderr.isatty())
    if not look.screen:
        return await work
    spinning = asyncio.create_task(_spin(what, FRAMES if look.unicode else ASCII_FRAMES))
    try:
        return await work
    finally:
        spinning.cancel()
        await asyncio.wait({spinning})


async def _spin(what: str, frames: str) -> None:
    began = time.monotonic()
    await asyncio.sleep(QUIET_S)
    try:
        while True:
            for frame in frames:
                took = int(time.monotonic() - began)
                print(f"\r{frame} {what} {took} s ", end="", file=sys.stderr, flush=True)
                await asyncio.sleep(FRAME_S)
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)

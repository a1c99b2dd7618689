"""A browser's tab on a real gateway: signed in by a one-time code, watched for errors and breaches of its policy."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from aiohttp import web

from tests.fakes.providers import Step, _chunk, _stream
from tests.gateway.support import Door

if TYPE_CHECKING:
    from playwright.async_api import Browser, Locator, Page

CHROMIUM = "/usr/bin/chromium"
REQUIRED = "AGENT_TESTS_REQUIRE_ALL" in os.environ
try:
    from playwright.async_api import expect

    MISSING = "" if Path(CHROMIUM).exists() or REQUIRED else "Chromium is missing: apt-get install chromium"
except ImportError:
    if REQUIRED:
        raise
    expect: Any = None
    MISSING = "Playwright is missing: pip install playwright"
BREACH = """addEventListener('securitypolicyviolation',
    event => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`))"""


class Tab:
    """One tab of a context of its own."""

    def __init__(self, page: Page, door: Door) -> None:
        self.page, self.door = page, door
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)

    async def sign_in(self, key: str, **wanted: Any) -> None:
        """By a code, as a link brings it."""
        code = (await self.door.post("/v1/codes", json=wanted)).json["code"]
        await self.page.goto(f"{self.door.url}/#code={code}&session={quote(key, safe='')}")
        await expect(self.page.locator("#title")).to_have_text(key)

    async def say(self, text: str) -> None:
        await self.box.fill(text)
        await self.box.press("Enter")

    @property
    def box(self) -> Locator:
        return self.page.get_by_role("textbox", name="Message", exact=True)

    @property
    def log(self) -> Locator:
        return self.page.get_by_role("log")

    @property
    def answer(self) -> Locator:
        """The newest, be it written or still being written."""
        return self.page.locator("article.answer").last

    async def js(self, source: str, *given: Any) -> Any:
        return await self.page.evaluate(source, *given)

    def forgive(self, words: str) -> None:
        """An error of the browser's own log that belongs to the test: it must have come."""
        assert any(words in error for error in self.errors), self.errors
        self.errors = [error for error in self.errors if words not in error]


@asynccontextmanager
async def tab(browser: Browser, door: Door, **how: Any) -> AsyncIterator[Tab]:
    """Fails when the tab has logged an error or broken its policy."""
    context = await browser.new_context(**how)
    await context.add_init_script(BREACH)
    made = Tab(await context.new_page(), door)
    try:
        yield made
    finally:
        await context.close()
    assert made.errors == [], made.errors


class Slow:
    """An answer that a test lets out piece by piece."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[str] = asyncio.Queue()

    def add(self, text: str) -> None:
        self._pieces.put_nowait(text)

    def end(self) -> None:
        self._pieces.put_nowait("")

    @property
    def step(self) -> Step:
        async def step(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
            response = await _stream(request)
            while piece := await self._pieces.get():
                await response.write(_chunk({"role": "assistant", "content": piece}))
            await response.write(_chunk({}, "stop"))
            await response.write(
                _chunk({}, usage={"prompt_tokens": 1_200, "completion_tokens": 70, "total_tokens": 1_270})
            )
            await response.write(b"data: [DONE]\n\n")
            return response

        return step

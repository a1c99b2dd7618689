"""Chromium, the page's gateway, and a service with the live bus in front of a model that tests write themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.support import CHROMIUM, MISSING, Tab, tab
from tests.fakes.providers import FakeProvider, fake_provider
from tests.gateway.support import Door, door
from tests.support import Service, live

if TYPE_CHECKING:
    from playwright.async_api import Browser


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    if MISSING:
        pytest.skip(MISSING)
    from playwright.async_api import async_playwright, expect

    expect.set_options(timeout=20_000)  # some expectations wait for a whole turn
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield launched
        await launched.close()


@pytest.fixture
async def model() -> AsyncIterator[FakeProvider]:
    async with fake_provider() as provider:
        yield provider


@pytest.fixture
async def served(
    make_service: Callable[..., Any], model: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Service]:
    """A service that asks `model`, and asks a person before `git`."""
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key")
    made: Service = await make_service(
        model={"name": "openai-chat:fake", "base_url": f"{model.url}/v1"}, tools={"ask": ["shell:git *"]}
    )
    async with made.worker() as services:
        made.services = services
        async with live(made):
            yield made


@pytest.fixture
async def gate(served: Service) -> AsyncIterator[Door]:
    async with door(served) as opened:
        yield opened


@pytest.fixture
async def open_tab(browser: Browser) -> AsyncIterator[Callable[..., Awaitable[Tab]]]:
    """Opens tabs, signed in unless told otherwise; at the end none may have logged an error."""
    async with AsyncExitStack() as stack:

        async def open_one(of: Door, key: str, *, sign_in: bool = True, **how: Any) -> Tab:
            made = await stack.enter_async_context(tab(browser, of, **how))
            if sign_in:
                await made.sign_in(key)
            return made

        yield open_one

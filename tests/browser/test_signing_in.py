"""Who gets into the page: a code once, a token, nobody else; and what is left of either."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent_session.gateway import page_tokens
from agent_session.gateway.page_tokens import PageTokens
from agent_session.transcript.volume import MARKER
from tests.browser.support import Tab, expect
from tests.browser.support import tab as new_tab
from tests.fakes.providers import FakeProvider, says
from tests.gateway.balancer import balanced
from tests.gateway.support import Door, door
from tests.support import Service, fresh_key

if TYPE_CHECKING:
    from playwright.async_api import Browser

OpenTab = Callable[..., Awaitable[Tab]]


async def test_a_code_leaves_the_address_at_once_and_opens_one_tab_only(gate: Door, open_tab: OpenTab) -> None:
    code = (await gate.post("/v1/codes", json={})).json["code"]
    link = f"{gate.url}/#code={code}&session=team%2Fada"
    first, second = await open_tab(gate, "", sign_in=False), await open_tab(gate, "", sign_in=False)
    await first.page.goto(link)
    await expect(first.page.locator("#title")).to_have_text("team/ada")
    assert code not in first.page.url
    assert code not in await first.js("JSON.stringify([sessionStorage, localStorage, document.cookie])")
    await first.page.reload()
    await expect(first.page.locator("#title")).to_have_text("team/ada")
    await second.page.goto(link)
    await expect(second.page.get_by_role("alert").first).to_contain_text("this code was used")
    assert code not in second.page.url
    second.forgive("401")


async def test_a_code_is_too_old_after_a_minute(gate: Door, open_tab: OpenTab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_tokens, "CODE_S", 0)
    tab = await open_tab(gate, "", sign_in=False)
    code = (await gate.post("/v1/codes", json={})).json["code"]
    await tab.page.goto(f"{gate.url}/#code={code}")
    await expect(tab.page.get_by_role("alert").first).to_contain_text("too old")
    tab.forgive("401")


async def test_without_a_token_the_page_asks_and_a_wrong_one_is_refused(gate: Door, open_tab: OpenTab) -> None:
    tab = await open_tab(gate, "", sign_in=False)
    await tab.page.goto(gate.url)
    token = tab.page.get_by_label("Token")
    await expect(token).to_be_focused()
    assert tab.errors == [], "asking costs no failed request"
    await token.fill("wrong-token-0123456789")
    await token.press("Enter")
    await expect(tab.page.get_by_role("alert").first).to_have_text("This token is not valid here.")
    tab.forgive("401")
    await token.fill(gate.token)
    await token.press("Enter")
    await expect(tab.page.locator("#title")).to_have_text("main")
    kept = await tab.js("JSON.stringify([sessionStorage, localStorage, document.cookie, location.href])")
    assert gate.token not in kept, "what was typed is exchanged, not kept"
    assert await tab.js("document.querySelector('#token').value") == ""


async def test_a_page_works_on_gateways_that_take_turns_and_begin_anew(
    served: Service, browser: Browser, model: FakeProvider
) -> None:
    """No request, from the link's code on, need reach the gateway that the one before it reached."""
    key = fresh_key()
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(door(served)) for _ in range(2)]
        balancer = await stack.enter_async_context(balanced(one, other))
        linked, typed = [await stack.enter_async_context(new_tab(browser, one)) for _ in range(2)]
        model.will(says("Hello."), says("Hello again."))
        code = (await one.post("/v1/codes", json={})).json["code"]
        await linked.page.goto(f"{balancer.url}/#code={code}&session={key}")
        await linked.say("good morning")
        await expect(linked.answer).to_contain_text("Hello.")
        await typed.page.goto(f"{balancer.url}/#session={key}")
        await typed.page.get_by_label("Token").fill(one.token)
        await typed.page.get_by_label("Token").press("Enter")
        await expect(typed.answer).to_contain_text("Hello.")
        await linked.page.reload()
        await expect(linked.answer).to_contain_text("Hello.")
        for before in (one, other):
            before.gateway.pages = PageTokens(served.volume, None)  # as a new process begins
        await typed.say("good evening")
        await expect(typed.answer).to_contain_text("Hello again.")
        await expect(linked.answer).to_contain_text("Hello again.")
        assert min(balancer.let_in[0], balancer.let_in[1]) >= 2, balancer.let_in


async def test_a_link_waits_for_a_volume_that_is_away(served: Service, open_tab: OpenTab, gate: Door) -> None:
    marker = served.volume.root / MARKER
    tab = await open_tab(gate, "", sign_in=False)
    code = (await gate.post("/v1/codes", json={})).json["code"]
    os.rename(marker, marker.with_suffix(".away"))
    try:
        await tab.page.goto(f"{gate.url}/#code={code}&session=team%2Fada")
        await expect(tab.page.get_by_role("alert").first).to_contain_text("It is asked again")
    finally:
        os.rename(marker.with_suffix(".away"), marker)
    await expect(tab.page.locator("#title")).to_have_text("team/ada")
    tab.forgive("503")


async def test_a_page_ends_with_the_token_that_it_came_from(served: Service, browser: Browser, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("one-token-0123456789\n")
    tokens.chmod(0o600)
    async with door(served, token_file=tokens) as opened, new_tab(browser, opened) as tab:
        opened.token = "one-token-0123456789"
        await tab.sign_in("main")
        await tab.box.fill("a half-written thought")
        tokens.write_text("another-token-0123456789\n")
        await tab.page.locator("#new-key").fill("elsewhere")
        await tab.page.locator("#new-key").press("Enter")
        await expect(tab.page.get_by_role("alert").first).to_contain_text("ends with the token that it came from")
        tab.forgive("401")
        await tab.page.get_by_label("Token").fill("another-token-0123456789")
        await tab.page.get_by_label("Token").press("Enter")
        await tab.js("location.hash = '#session=main'")
        await expect(tab.page.locator("#title")).to_have_text("main")
        await expect(tab.box).to_have_value("a half-written thought")


async def test_signing_out_leaves_nothing_in_the_tab(gate: Door, open_tab: OpenTab) -> None:
    tab = await open_tab(gate, "main")
    await tab.page.get_by_role("button", name="Sign out of this tab").click()
    await expect(tab.page.get_by_label("Token")).to_be_focused()
    assert await tab.js("sessionStorage.length + localStorage.length") == 0
    await tab.page.reload()
    await expect(tab.page.get_by_label("Token")).to_be_visible()


async def test_a_person_whom_a_proxy_names_is_not_asked_for_a_token(
    served: Service, browser: Browser, model: FakeProvider
) -> None:
    model.will(says("Hello, Ada."))
    trusted = {"trusted_proxies": ("127.0.0.0/8",), "proxy_secret": "s3cret-of-the-proxy", "token": "t" * 20}
    person = {"X-Forwarded-User": "ada", "X-Proxy-Secret": "s3cret-of-the-proxy"}
    async with door(served, **trusted) as opened, new_tab(browser, opened, extra_http_headers=person) as tab:
        await tab.page.goto(f"{opened.url}/#session=api%2Fada%2Fnotes")
        await tab.say("hello")
        await expect(tab.answer).to_contain_text("Hello, Ada.")

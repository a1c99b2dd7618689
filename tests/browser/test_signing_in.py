"""Who gets into the page: a code once, a token, nobody else; and what is left of either."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent_session.gateway import codes
from agent_session.gateway.codes import PageTokens
from tests.browser.support import Tab, expect
from tests.browser.support import tab as new_tab
from tests.fakes.providers import FakeProvider, says
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
    monkeypatch.setattr(codes, "CODE_S", 0)
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


async def test_a_page_outlives_no_restart_and_says_so(served: Service, browser: Browser, model: FakeProvider) -> None:
    model.will(says("Hello."))
    key = fresh_key()
    async with door(served) as before, new_tab(browser, before) as tab:
        await tab.sign_in(key)
        await tab.box.fill("a half-written thought")
        before.gateway.pages = PageTokens()  # as a new process begins
        await tab.page.locator("#new-key").fill("elsewhere")
        await tab.page.locator("#new-key").press("Enter")
        await expect(tab.page.get_by_role("alert").first).to_contain_text("ends when the gateway restarts")
        tab.forgive("401")
        await tab.page.get_by_label("Token").fill(before.token)
        await tab.page.get_by_label("Token").press("Enter")
        await tab.js(f"location.hash = '#session={key}'")
        await expect(tab.page.locator("#title")).to_have_text(key)
        await expect(tab.box).to_have_value("a half-written thought")


async def test_a_page_ends_with_the_token_that_it_came_from(served: Service, browser: Browser, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("one-token-0123456789\n")
    tokens.chmod(0o600)
    async with door(served, token_file=tokens) as opened, new_tab(browser, opened) as tab:
        opened.token = "one-token-0123456789"
        await tab.sign_in("main")
        tokens.write_text("another-token-0123456789\n")
        await tab.page.reload()
        await expect(tab.page.get_by_role("alert").first).to_contain_text("access has ended")
        tab.forgive("401")


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

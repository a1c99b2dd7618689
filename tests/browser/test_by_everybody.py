"""For everybody: the keyboard alone, names for what is not text, contrast, narrow screens, less motion, offline."""

import re
from collections.abc import Awaitable, Callable

import pytest

from tests.browser.support import Tab, expect
from tests.fakes.providers import FakeProvider, calls, says
from tests.gateway.support import Door
from tests.support import fresh_key

OpenTab = Callable[..., Awaitable[Tab]]
TEXT = "# Title\n\nText, `code`, a [link](https://a.example.org).\n\n> quote\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
ASKS = ("shell", '{"command": "git --version"}')


async def a_talk(gate: Door, model: FakeProvider, open_tab: OpenTab, **how: object) -> Tab:
    """With an answer, a call that is done, and one that waits for a person."""
    key = fresh_key()
    model.will(calls(("shell", '{"command": "true"}')), says(TEXT), calls(ASKS), says("Done."))
    await gate.say(key, "hello")
    tab = await open_tab(gate, key, **how)
    await tab.say("which git?")
    await expect(tab.page.locator("section.approval")).to_be_visible()
    return tab


async def test_a_whole_talk_with_the_keyboard_alone(gate: Door, model: FakeProvider, open_tab: OpenTab) -> None:
    tab = await a_talk(gate, model, open_tab)
    page = tab.page
    await page.reload()
    await expect(page.locator("section.approval")).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="To the message box")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(tab.box).to_be_focused()
    await page.keyboard.type("one")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("two")
    assert await tab.box.input_value() == "one\ntwo"
    reached: list[str] = []
    for _ in range(30):
        await page.keyboard.press("Shift+Tab")
        name, ring = await tab.js("""() => { const e = document.activeElement;
            return [e.getAttribute('aria-label') || e.textContent.trim().slice(0, 40) || e.id || e.tagName,
                    getComputedStyle(e).outlineStyle + parseFloat(getComputedStyle(e).outlineWidth)] }""")
        reached.append(name)
        assert name == "BODY" or ring == "solid2", f"{name} shows no focus"
        if name == "Deny":
            break
    await page.keyboard.press("Enter")
    await expect(page.locator("details.call .outcome").last).to_have_text("denied")
    call = page.locator("details.call").first
    await call.locator("summary").focus()
    await page.keyboard.press("Enter")
    await expect(call.locator("dd")).to_contain_text("true")
    await expect(call.locator("summary")).to_be_focused()


async def test_everything_that_can_be_used_has_a_name_and_a_role(
    gate: Door, model: FakeProvider, open_tab: OpenTab
) -> None:
    tab = await a_talk(gate, model, open_tab)
    page = tab.page
    for role, name in (
        ("navigation", "Sessions"),
        ("complementary", "Details"),
        ("log", "Conversation"),
        ("form", "Message"),
    ):
        await expect(page.get_by_role(role, name=name, exact=True)).to_have_count(1)  # type: ignore[arg-type]
    await expect(page.get_by_role("main")).to_have_count(1)
    await expect(page.get_by_role("heading", level=1)).to_have_count(1)
    nameless = await tab.js("""() => {
        const usable = 'button, a, input, textarea, summary, [tabindex="0"]';
        return [...document.querySelectorAll(usable)]
            .filter(e => e.checkVisibility() && e.getAttribute('aria-hidden') !== 'true')
            .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))
            .map(e => e.outerHTML.slice(0, 100));
    }""")
    assert nameless == []
    doubled = await tab.js("""() => { const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
        return ids.filter((id, at) => ids.indexOf(id) !== at) }""")
    assert doubled == []
    dangling = await tab.js("""() => [...document.querySelectorAll('[for], [aria-controls], [aria-describedby]')]
        .flatMap(e => ['for', 'aria-controls', 'aria-describedby'].map(n => e.getAttribute(n)))
        .filter(id => id && !document.getElementById(id))""")
    assert dangling == []
    assert await tab.js("document.documentElement.lang") == "en"
    small = await tab.js("""() => [...document.querySelectorAll('button, summary, #session-list a')]
        .filter(e => e.checkVisibility())
        .filter(e => e.getBoundingClientRect().height < 24 || e.getBoundingClientRect().width < 24)
        .map(e => e.textContent)""")
    assert small == []


CONTRAST = """() => {
    const parse = text => [...text.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
    const linear = value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const ground = element => {
        const colour = parse(getComputedStyle(element).backgroundColor);
        return colour[3] === 1 || !element.parentElement ? colour : ground(element.parentElement);
    };
    const low = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
        if (!text || !element.checkVisibility() || element.closest('[aria-hidden]') || element.disabled) continue;
        const pair = [light(parse(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
        const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
        if (ratio < 4.5) low.push([text.slice(0, 40), ratio.toFixed(2)]);
    }
    return low;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_can_be_told_from_its_ground(
    gate: Door, model: FakeProvider, open_tab: OpenTab, scheme: str
) -> None:
    tab = await a_talk(gate, model, open_tab, color_scheme=scheme)
    for summary in await tab.page.locator("details.call summary").all():
        await summary.click()
    assert await tab.js(CONTRAST) == []
    ground = await tab.js("getComputedStyle(document.body).backgroundColor")
    first = int(re.findall(r"\d+", ground)[0])
    assert (first > 128) == (scheme == "light")


@pytest.mark.parametrize("width", [320, 390, 820, 1280])
async def test_nothing_is_cut_off_at_any_width(gate: Door, model: FakeProvider, open_tab: OpenTab, width: int) -> None:
    tab = await a_talk(gate, model, open_tab, viewport={"width": width, "height": 740})
    outside = """() => [...document.querySelectorAll('#app *')]
        .filter(e => e.checkVisibility() && !e.closest('pre, .table, .unseen, #skip'))
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1)
        .map(e => e.outerHTML.slice(0, 80))"""
    assert await tab.js("document.documentElement.scrollWidth") <= width
    assert await tab.js(outside) == []
    await expect(tab.page.get_by_role("button", name="Allow once")).to_be_in_viewport()
    await expect(tab.page.get_by_role("button", name="Cancel")).to_be_visible()
    toggle = tab.page.get_by_role("button", name="Sessions")
    if width < 700:
        await expect(tab.page.get_by_role("navigation")).to_be_hidden()
        await toggle.click()
        await expect(tab.page.get_by_role("navigation").get_by_role("link").first).to_be_focused()
        assert await tab.js(outside) == []
        await tab.page.keyboard.press("Escape")
        await expect(tab.page.get_by_role("navigation")).to_be_hidden()
        await expect(toggle).to_be_focused()
    else:
        await expect(tab.page.get_by_role("navigation")).to_be_visible()


async def test_nothing_moves_for_who_wants_less_motion(gate: Door, model: FakeProvider, open_tab: OpenTab) -> None:
    model.will(calls(("shell", '{"command": "sleep 30"}')), says("Done."))
    for wanted, moving in (("no-preference", True), ("reduce", False)):
        tab = await open_tab(gate, fresh_key(), reduced_motion=wanted)
        model.will(calls(("shell", '{"command": "sleep 30"}')), says("Done."))
        await tab.say("sleep")
        await expect(tab.page.locator("details.call.running")).to_be_visible()
        assert bool(await tab.js("document.getAnimations().length")) == moving
        await tab.page.keyboard.press("Escape")
        await expect(tab.page.locator(".note.cancelled")).to_be_visible()


async def test_a_connection_that_breaks_is_named_and_mends_itself(
    gate: Door, model: FakeProvider, open_tab: OpenTab
) -> None:
    model.will(says("While you were away."))
    key = fresh_key()
    tab = await open_tab(gate, key)
    await expect(tab.page.locator("#empty")).to_be_visible()
    await tab.page.context.set_offline(True)
    await tab.js("dispatchEvent(new Event('online'))")
    await tab.say("are you there?")
    await expect(tab.page.locator("#told")).to_contain_text("Not sent: The gateway does not answer")
    await expect(tab.box).to_have_value("are you there?")
    await gate.say(key, "hello from elsewhere")
    await tab.page.context.set_offline(False)
    await expect(tab.answer).to_contain_text("While you were away.", timeout=20_000)
    await expect(tab.page.locator("#problem")).to_be_hidden()
    await tab.box.press("Enter")
    await expect(tab.page.locator("article.user .words", has_text="are you there?")).to_have_count(1)
    await expect(tab.box).to_be_empty()
    tab.forgive("ERR_INTERNET_DISCONNECTED")

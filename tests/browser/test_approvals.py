"""Deciding on the page: the whole call, three answers, and no right that the token does not have."""

from collections.abc import Awaitable, Callable

import pytest

from tests.browser.support import Tab, expect
from tests.fakes.providers import FakeProvider, calls, says
from tests.gateway.support import Door
from tests.support import fresh_key

OpenTab = Callable[..., Awaitable[Tab]]
ASKS = ("shell", '{"command": "git --version"}')


@pytest.mark.parametrize(
    ("button", "outcome"), [("Allow once", "ok"), ("Always for this session", "ok"), ("Deny", "denied")]
)
async def test_a_call_is_decided_from_its_card(
    gate: Door, model: FakeProvider, open_tab: OpenTab, button: str, outcome: str
) -> None:
    model.will(calls(ASKS), says("Understood."))
    tab = await open_tab(gate, fresh_key())
    await tab.say("which git?")
    card = tab.page.get_by_role("region", name="The agent asks to run shell")
    await expect(card).to_contain_text("git --version")
    await expect(card).to_contain_text("tools.ask")
    await expect(tab.page.locator("#announce")).to_contain_text("The agent asks to run shell")
    await card.get_by_role("button", name=button).click()
    await expect(tab.page.locator("details.call .outcome")).to_have_text(outcome)
    await expect(card).to_have_count(0)
    await expect(tab.answer).to_contain_text("Understood.")
    if button.startswith("Always"):
        await expect(tab.page.locator("#details-list")).to_contain_text("git --version")


async def test_a_token_without_the_right_is_told_so_on_the_card(
    gate: Door, model: FakeProvider, open_tab: OpenTab
) -> None:
    model.will(calls(ASKS), says("Understood."))
    key = fresh_key()
    tab = await open_tab(gate, key, sign_in=False)
    await tab.sign_in(key, scopes=["read", "send"])
    await tab.say("which git?")
    card = tab.page.get_by_role("region", name="The agent asks to run shell")
    await card.get_by_role("button", name="Allow once").click()
    await expect(card.get_by_role("alert")).to_contain_text("You may not decide on this")
    await expect(card.get_by_role("button", name="Allow once")).to_be_enabled()
    tab.forgive("403")


async def test_what_cannot_be_seen_is_made_visible_before_one_decides(
    gate: Door, model: FakeProvider, open_tab: OpenTab
) -> None:
    """I10: what is shown is what would run."""
    hidden = "git log \\u202e txt.exe\\u200b \\\\n\\n rm"
    model.will(calls(("shell", '{"command": "' + hidden + '"}')), says("Understood."))
    tab = await open_tab(gate, fresh_key())
    await tab.say("log")
    shown = tab.page.locator("section.approval pre")
    await expect(shown).to_have_text("git log \\u202e txt.exe\\u200b \\\\n\n rm", use_inner_text=True)


async def test_a_decision_made_elsewhere_clears_the_card(gate: Door, model: FakeProvider, open_tab: OpenTab) -> None:
    model.will(calls(ASKS), says("Understood."))
    key = fresh_key()
    one, other = await open_tab(gate, key), await open_tab(gate, key)
    await one.say("which git?")
    for tab in (one, other):
        await expect(tab.page.locator("section.approval")).to_be_visible()
    await other.page.get_by_role("button", name="Deny").click()
    await expect(one.page.locator("section.approval")).to_have_count(0)
    await expect(one.page.locator("details.call .outcome")).to_have_text("denied")


async def test_sessions_that_wait_for_a_person_come_first_in_the_list(
    gate: Door, model: FakeProvider, open_tab: OpenTab
) -> None:
    quiet, asking = fresh_key("quiet"), fresh_key("asking")
    model.will(calls(ASKS), says("Understood."))
    tab = await open_tab(gate, asking)
    await tab.say("which git?")
    await expect(tab.page.locator("section.approval")).to_be_visible()
    model.will(says("Nothing."))
    await gate.say(quiet, "hello")
    rows = tab.page.get_by_role("navigation", name="Sessions").get_by_role("link")
    await expect(rows.filter(has_text=quiet)).to_be_visible(timeout=15_000)
    await expect(rows.filter(has_text=asking)).to_contain_text("waits for a decision", timeout=15_000)
    await expect(rows.filter(has_text=asking)).to_have_attribute("aria-current", "page")
    names = await rows.all_inner_texts()
    place = {key: next(at for at, name in enumerate(names) if key in name) for key in (quiet, asking)}
    assert place[asking] < place[quiet], "though it is older"
    await rows.filter(has_text=quiet).click()
    await expect(tab.page.locator("#title")).to_have_text(quiet)
    await expect(tab.page.locator("section.approval")).to_have_count(0)
    await expect(tab.answer).to_contain_text("Nothing.")

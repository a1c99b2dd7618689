"""Talking on the page: what is said, streamed, run, cancelled, seen by two."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.browser.support import Slow, Tab, expect
from tests.fakes.providers import FakeProvider, calls, says
from tests.gateway.support import Door
from tests.support import Service, fresh_key

OpenTab = Callable[..., Awaitable[Tab]]


async def test_a_message_is_answered_while_one_watches(gate: Door, model: FakeProvider, open_tab: OpenTab) -> None:
    slow, key = Slow(), fresh_key()
    model.will(slow.step)
    tab = await open_tab(gate, key)
    await tab.say("hello there")
    slow.add("**Once** upon")
    await expect(tab.answer).to_contain_text("Once upon")
    await expect(tab.page.locator("#state")).to_have_text("running")
    slow.add(" a time")
    await expect(tab.answer.locator("strong")).to_have_text("Once")
    await expect(tab.answer).to_contain_text("Once upon a time")
    slow.end()
    await expect(tab.page.locator("#state")).to_have_text("idle")
    await expect(tab.page.locator("article.answer")).to_have_count(1)
    await expect(tab.page.locator("article.user")).to_have_count(1)
    await expect(tab.page.locator("#announce")).to_contain_text("Once** upon a time")
    await expect(tab.box).to_be_empty()
    await expect(tab.page.locator("#details-list")).to_contain_text("1.3k")


async def test_a_page_loaded_anew_in_mid_turn_goes_on_showing_it(
    gate: Door, model: FakeProvider, open_tab: OpenTab
) -> None:
    slow, key = Slow(), fresh_key()
    model.will(slow.step)
    tab = await open_tab(gate, key)
    await tab.say("tell me")
    slow.add("The beginning,")
    await expect(tab.answer).to_contain_text("The beginning,")
    await tab.page.reload()
    await expect(tab.answer).to_contain_text("The beginning,")
    slow.add(" the middle,")
    await expect(tab.answer).to_have_text("The beginning, the middle,")
    slow.add(" the end.")
    slow.end()
    await expect(tab.page.locator("#state")).to_have_text("idle")
    await expect(tab.answer).to_contain_text("The beginning, the middle, the end.")
    await expect(tab.page.locator("article.user")).to_have_count(1)


async def test_a_tool_call_folds_open_to_its_arguments_and_the_tail_of_its_output(
    gate: Door, model: FakeProvider, open_tab: OpenTab
) -> None:
    key = fresh_key()
    model.will(calls(("shell", '{"command": "tail -n 1 -f /etc/hostname"}')), says("It slept."))
    tab = await open_tab(gate, key)
    await tab.say("sleep")
    call = tab.page.locator("details.call")
    await expect(call).to_contain_text("running")
    await call.locator("summary").click()
    await expect(call.locator("dd").first).to_contain_text("tail -n 1 -f /etc/hostname")
    await expect(call.locator(".output")).to_have_text(Path("/etc/hostname").read_text())
    await tab.page.get_by_role("button", name="Cancel").click()
    await expect(call).to_contain_text("cancelled")
    await expect(tab.page.locator(".note.cancelled")).to_be_visible()
    await expect(call.locator("dd").first).to_be_visible()


async def test_escape_cancels_the_turn(gate: Door, model: FakeProvider, open_tab: OpenTab) -> None:
    slow, key = Slow(), fresh_key()
    model.will(slow.step)
    tab = await open_tab(gate, key)
    await tab.say("a long one")
    slow.add("It was a dark night")
    await expect(tab.answer).to_contain_text("dark night")
    await expect(tab.page.get_by_role("button", name="Cancel")).to_be_visible()
    await tab.box.press("Escape")
    await expect(tab.page.locator(".note.cancelled")).to_be_visible()
    await expect(tab.page.locator("#state")).to_have_text("idle")
    slow.end()


async def test_a_roll_over_is_marked_and_leads_to_the_run_in_temporals_ui(
    gate: Door, served: Service, model: FakeProvider, open_tab: OpenTab
) -> None:
    key, ui = fresh_key(), "http://127.0.0.1:8233/"
    model.will(says("first"), says("second"), says("third"))
    temporal = served.settings.temporal.model_copy(update={"ui_url": ui})
    gate.gateway.settings = gate.gateway.settings.model_copy(update={"temporal": temporal})
    tab = await open_tab(gate, key)
    for words in ("one", "two"):
        await tab.say(words)
        await expect(tab.page.locator("article.answer:not(.live)")).to_have_count(1 if words == "one" else 2)
    await expect(tab.page.locator(".note.rolled")).to_have_count(0)
    await served.client.roll_over(key)
    await served.until(key, lambda status: status.roll_overs > 0)
    await tab.say("three")
    marker = tab.page.locator(".note.rolled")
    await expect(marker).to_have_count(1)
    run = (await served.client.status(key)).run_id
    history = f"{ui}namespaces/default/workflows/session%2F{key}/{run}/history"
    await expect(marker.get_by_role("link", name=run[:8])).to_have_attribute("href", history)
    await expect(tab.page.locator("#details").get_by_role("link")).to_have_attribute("href", history)
    await tab.page.reload()
    await expect(marker.get_by_role("link", name=run[:8])).to_have_attribute("href", history)


async def test_two_tabs_see_the_same(gate: Door, model: FakeProvider, open_tab: OpenTab) -> None:
    slow, key = Slow(), fresh_key()
    model.will(slow.step)
    one, other = await asyncio.gather(open_tab(gate, key), open_tab(gate, key))
    await one.say("for both")
    await expect(other.page.locator("article.user")).to_contain_text("for both")
    slow.add("Both see ")
    for tab in (one, other):
        await expect(tab.answer).to_contain_text("Both see")
    slow.add("this.")
    slow.end()
    for tab in (one, other):
        await expect(tab.page.locator("article.answer:not(.live)")).to_contain_text("Both see this.")
        await expect(tab.page.locator("#state")).to_have_text("idle")
    assert await one.log.inner_text() == await other.log.inner_text()

"""Files in by button and drop, whole results out; slash commands; what stands between the messages."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.browser.support import Tab, expect
from tests.fakes.providers import FakeProvider, calls, fails, says
from tests.gateway.support import Door
from tests.support import Service, fresh_key

OpenTab = Callable[..., Awaitable[Tab]]


async def test_files_go_with_a_message_by_button_and_by_drop(
    gate: Door, served: Service, model: FakeProvider, open_tab: OpenTab
) -> None:
    model.will(says("Two files."))
    key = fresh_key()
    tab = await open_tab(gate, key)
    async with tab.page.expect_file_chooser() as choosing:
        await tab.page.get_by_role("button", name="Attach files").click()
    chooser = await choosing.value
    await chooser.set_files([{"name": "one.txt", "mimeType": "text/plain", "buffer": b"first"},
                             {"name": "gone.txt", "mimeType": "text/plain", "buffer": b"x"}])  # fmt: skip
    await tab.js("""() => { const data = new DataTransfer();
        data.items.add(new File(['second'], 'two <b>.txt', { type: 'text/plain' }));
        const how = { dataTransfer: data, bubbles: true, cancelable: true };
        document.body.dispatchEvent(new DragEvent('drop', how)); }""")
    await tab.page.get_by_role("button", name="Remove gone.txt").click()
    await expect(tab.page.locator("#files li")).to_have_count(2)
    await tab.say("look")
    await expect(tab.page.locator("#lines article.user .words")).to_have_text("look")
    await expect(tab.page.locator("article.user .file")).to_have_text(["one.txt (5 B)", "two <b>.txt (6 B)"])
    await expect(tab.page.locator("#files li")).to_have_count(0)
    sent = [one for line in served.lines(key) for one in line.get("attachments") or []]
    assert [one["name"] for one in sent] == ["one.txt", "two <b>.txt"]


async def test_a_long_result_is_downloaded_whole(
    gate: Door, model: FakeProvider, open_tab: OpenTab, tmp_path: Path
) -> None:
    model.will(calls(("shell", '{"command": "seq 20000"}')), says("Counted."))
    tab = await open_tab(gate, fresh_key())
    await tab.say("count")
    await expect(tab.answer).to_contain_text("Counted.")
    await tab.page.locator("details.call summary").click()
    async with tab.page.expect_download() as downloading:
        await tab.page.get_by_role("button", name="Download the whole result").click()
    await (await downloading.value).save_as(tmp_path / "result")
    assert "\n19999\n20000\n" in (tmp_path / "result").read_text()


async def test_a_slash_command_is_answered_beside_the_talk(gate: Door, model: FakeProvider, open_tab: OpenTab) -> None:
    model.will(says("Hello."))
    tab = await open_tab(gate, fresh_key())
    await tab.say("hello")
    await expect(tab.answer).to_contain_text("Hello.")
    await tab.say("/status")
    await expect(tab.page.locator("section.aside")).to_contain_text("idle")
    await expect(tab.page.locator("article.user")).to_have_count(1)
    await tab.say("/new")
    await tab.say("hello again")
    await expect(tab.page.locator(".note.new")).to_have_text("A new talk begins here")


async def test_a_failed_turn_says_why_and_under_which_id(
    gate: Door, served: Service, model: FakeProvider, open_tab: OpenTab
) -> None:
    model.will(fails(401))
    key = fresh_key()
    tab = await open_tab(gate, key)
    await tab.say("hello")
    await expect(tab.page.locator(".note.failed")).to_contain_text("(e-")
    ended = served.lines(key)[-1]
    await expect(tab.page.locator(".note.failed")).to_contain_text(ended["error_id"])


async def test_a_long_text_is_shown_once_by_its_beginning(gate: Door, model: FakeProvider, open_tab: OpenTab) -> None:
    model.will(says("Long."))
    tab = await open_tab(gate, fresh_key())
    await tab.say("word " * 20_000)
    await expect(tab.answer).to_contain_text("Long.")
    await expect(tab.page.locator("article.user")).to_have_count(1)
    await expect(tab.page.locator("article.user .by")).to_have_text("The beginning of 98 KB")
    await expect(tab.page.locator("article.user .words")).not_to_contain_text("spool/")

"""What people, models and tools write stays text: no element, script, request or link of theirs comes to life."""

import asyncio
import json
from collections.abc import Awaitable, Callable

from tests.browser.support import Slow, Tab, expect
from tests.fakes.providers import FakeProvider, calls, says
from tests.gateway.support import Door
from tests.support import fresh_key

OpenTab = Callable[..., Awaitable[Tab]]
ATTACKS = [
    "<script>document.title = 'broken'</script>",
    "<img src=x onerror=\"document.title='broken'\">",
    '<svg onload="document.title=\'broken\'"><a xlink:href="javascript:alert(1)"></a></svg>',
    "<iframe srcdoc=\"<script>top.document.title='broken'</script>\"></iframe>",
    "<base href=//evil.example.org><form action=//evil.example.org><input name=t></form>",
    "<style>* { display: none }</style><link rel=stylesheet href=//evil.example.org>",
    "[click](javascript:document.title='broken')",
    "[click](JaVa\tScript:alert(1)) [b](data:text/html,<script>alert(1)</script>) [c](vbscript:x) [d](file:///etc/passwd)",
    "[click](https://ok.example.org\" onclick=\"document.title='broken')",
    '![track](https://evil.example.org/pixel.png) ![x](x" onerror="alert(1))',
    "<javascript:document.title='broken'> <https://ok.example.org/\"onmouseover=alert(1)>",
    "[a [b](https://two.example.org)](https://one.example.org)",
    "`<b>` ```\n</code></pre><script>document.title='broken'</script>\n```",
    "| <img src=x onerror=alert(1)> | <b>x</b> |\n|---|---|\n| [x](javascript:1) | <script>1</script> |",
    "# <u>heading</u>\n> <i>quote</i>\n- <b>item</b>\n1. <s>one</s>",
    "__proto__ constructor ${document.cookie} {{7*7}} \u202egnp.exe",
]
ALLOWED = {
    "A", "ARTICLE", "B", "BLOCKQUOTE", "BR", "CODE", "DD", "DEL", "DETAILS", "DIV", "DL", "DT", "EM", "H3", "H4", "HR",
    "LI", "OL", "P", "PRE", "SPAN", "STRONG", "SUMMARY", "TABLE", "TBODY", "TD", "TH", "THEAD", "TIME", "TR", "UL",
}  # fmt: skip


async def nothing_lives(tab: Tab) -> None:
    """Every element is one that the page itself makes, without handlers; every link leads where links may lead."""
    found = await tab.js("""() => [...document.querySelectorAll('#column *')].map(e => ({
        tag: e.tagName, href: e.getAttribute('href'), rel: e.rel,
        handlers: e.getAttributeNames().filter(n => n.startsWith('on') || n === 'style' || n === 'src')}))""")
    assert {one["tag"] for one in found} <= ALLOWED
    assert [one for one in found if one["handlers"]] == []
    links = [one for one in found if one["tag"] == "A"]
    assert all(one["href"].startswith(("https://", "http://", "mailto:")) for one in links)
    assert all(one["rel"] == "noopener noreferrer" for one in links)
    assert "broken" not in await tab.page.title()


async def test_markdown_of_an_answer_stays_text_while_it_streams_and_when_it_stands(
    gate: Door, model: FakeProvider, open_tab: OpenTab
) -> None:
    slow, key = Slow(), fresh_key()
    model.will(slow.step)
    tab = await open_tab(gate, key)
    outside: list[str] = []
    tab.page.on("request", lambda one: one.url.startswith((gate.url, "data:", "blob:")) or outside.append(one.url))
    await tab.say("attack me")
    for attack in ATTACKS:
        slow.add(attack[: len(attack) // 2])
        slow.add(attack[len(attack) // 2 :] + "\n\n")
    slow.add("The end.")
    await expect(tab.answer).to_contain_text("The end.")
    await nothing_lives(tab)
    slow.end()
    await expect(tab.page.locator("article.answer:not(.live)")).to_contain_text("The end.")
    await nothing_lives(tab)
    shown = await tab.answer.inner_text()
    for words in (
        "<script>document.title = 'broken'</script>",
        "<img src=x onerror=",
        "<iframe srcdoc=",
        "<u>heading</u>",
    ):
        assert words in shown
    assert outside == []


async def test_words_arguments_and_output_stay_text(gate: Door, model: FakeProvider, open_tab: OpenTab) -> None:
    attack = "\n".join(ATTACKS)
    key = fresh_key("<img src=x onerror=alert(1)>")
    write = ("write_file", json.dumps({"path": "<b>.txt", "text": attack}))
    model.will(calls(write), calls(("read_file", '{"path": "<b>.txt"}')), says("Done."))
    tab = await open_tab(gate, key)
    await tab.box.fill(attack)
    await tab.box.press("Enter")
    await expect(tab.answer).to_contain_text("Done.")
    opened = tab.page.locator("details.call")
    for at in range(await opened.count()):
        await opened.nth(at).locator("summary").click()
        await expect(opened.nth(at).locator(".body")).to_be_visible()
    await nothing_lives(tab)
    assert "<script>document.title = 'broken'</script>" in await opened.nth(1).locator(".output").inner_text()
    await expect(tab.page.locator("#title")).to_have_text(key)


async def test_links_lead_where_they_say_and_nowhere_else(gate: Door, model: FakeProvider, open_tab: OpenTab) -> None:
    model.will(says("See https://a.example.org/x_(y), <https://b.example.org>. [Here](https://c.example.org/?q=1&r=2)"
                    " [no](javascript:alert(1)) ![pic](https://d.example.org/p.png) [e](/v1/sessions)"))  # fmt: skip
    tab = await open_tab(gate, fresh_key())
    await tab.say("links")
    await expect(tab.page.locator("article.answer:not(.live) a").first).to_be_visible()
    hrefs = await tab.js("[...document.querySelectorAll('#lines a')].map(a => a.href)")
    assert hrefs == ["https://a.example.org/x_(y", "https://b.example.org/", "https://c.example.org/?q=1&r=2",
                     "https://d.example.org/p.png"]  # fmt: skip
    assert await tab.js("document.images.length") == 0


async def test_hostile_markdown_does_not_stop_the_page(gate: Door, open_tab: OpenTab) -> None:
    """Deep nesting and endless openings cost no more than their length."""
    tab = await open_tab(gate, fresh_key())
    hostile = {
        "stars": "*a " * 30_000, "doubled": "**a" * 20_000, "brackets": "[" * 60_000, "links": "[a](" * 15_000,
        "ticks": "".join("`" * (1 + at % 19) + "a" for at in range(6_000)), "quotes": ">" * 30_000,
        "lists": "\n".join(" " * (2 * at) + "- x" for at in range(300)), "tables": "|a" * 20_000 + "\n" + "|-" * 20_000,
        "angles": "<http:" * 10_000, "words": "_a" * 30_000, "fences": "```\n~~~\n" * 5_000, "hs": "https://" * 8_000,
    }  # fmt: skip
    for name, text in hostile.items():
        took = await asyncio.wait_for(
            tab.js(
                """async text => { const { nodesOf } = await import('/page/markdown.js');
                const began = performance.now(); document.createElement('div').append(...nodesOf(text));
                return performance.now() - began; }""",
                text,
            ),
            30,
        )
        assert took < 2_000, name

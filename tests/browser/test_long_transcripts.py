"""A transcript of 5,000 messages: a bounded document, an even scroll, the reader's place kept."""

from collections.abc import Awaitable, Callable
from typing import Any

from agent_session.transcript.lines import encode
from tests.browser.support import Slow, Tab, expect
from tests.fakes.providers import FakeProvider, says
from tests.gateway.support import Door
from tests.support import Service, fresh_key

OpenTab = Callable[..., Awaitable[Tab]]
MESSAGES = 5_000
RUN_TURNS = 50
NODES = 6_000  #: of the whole document


def write_long(service: Service, key: str, messages: int = MESSAGES) -> None:
    """A transcript as a session of many turns leaves it: questions, answers, a call in every third turn."""
    lines: list[dict[str, Any]] = []
    for n in range(1, messages // 2 + 1):
        turn = f"t-{n:016x}"
        lines.append({"n": n, "turn": turn, "role": "user", "id": f"{n:016x}", "channel": "http",
                      "principal": "http:owner", "run": f"{n // RUN_TURNS:08d}",
                      "content": f"question {n}\n" + "why? " * (n % 40)})  # fmt: skip
        step = 1
        if n % 3 == 0:
            call = {"id": f"{turn}-1-0", "name": "shell", "args": '{"command": "true"}', "verdict": "run"}
            lines.append({"n": n, "turn": turn, "role": "assistant", "step": 1, "content": "", "tool_calls": [call]})
            lines.append({"n": n, "turn": turn, "role": "tool", "call": call["id"], "name": "shell", "outcome": "ok",
                          "content": "fine", "duration_s": 0.1})  # fmt: skip
            step = 2
        text = f"**answer {n}**\n\n" + "- a point of some length\n" * (n % 12) + "```\ncode\n```\n" * (n % 2)
        lines.append({"n": n, "turn": turn, "role": "assistant", "step": step, "content": text, "model": "fake"})
        lines.append({"n": n, "turn": turn, "role": "event", "event": "ended", "outcome": "answered"})
    with service.volume.session_folder(key, create=True):
        path = service.volume.path_of(key) / "history.jsonl"
        path.write_bytes(b"".join(encode(line, seq, line.pop("n")) for seq, line in enumerate(lines, 1)))


async def work_ms(tab: Tab) -> float:
    """What the tab has spent on script, style and layout: waiting for a busy machine's next frame is no work."""
    session = await tab.page.context.new_cdp_session(tab.page)
    await session.send("Performance.enable")
    found = {one["name"]: one["value"] for one in (await session.send("Performance.getMetrics"))["metrics"]}
    return 1_000 * sum(found[name] for name in ("ScriptDuration", "RecalcStyleDuration", "LayoutDuration"))


async def nodes(tab: Tab) -> int:
    return await tab.js("document.querySelectorAll('*').length")


async def test_five_thousand_messages_scroll_to_the_first_and_back_in_a_bounded_document(
    gate: Door, served: Service, open_tab: OpenTab
) -> None:
    key = fresh_key()
    write_long(served, key)
    tab = await open_tab(gate, key)
    await expect(tab.answer).to_contain_text(f"answer {MESSAGES // 2}")
    before = await work_ms(tab)
    seen: dict[str, Any] = await tab.js("""async () => {
        const scroller = document.getElementById('scroller');
        const counts = [], runs = new Set(), began = performance.now(); let steps = 0;
        const first = () => document.querySelector('#lines article')?.id;
        while ((first() !== 'line-1' || scroller.scrollTop > 0) && performance.now() - began < 90000) {
            scroller.scrollTop -= 1500;
            await new Promise(requestAnimationFrame);
            for (const one of document.querySelectorAll('.note.rolled')) runs.add(one.textContent);
            if (steps++ % 20 === 0) counts.push(document.querySelectorAll('*').length);
        }
        return { steps, most: Math.max(...counts), first: first(), runs: [...runs].sort() };
    }""")
    work = (await work_ms(tab) - before) / seen["steps"]
    assert seen["first"] == "line-1", "the first message was never reached"
    assert seen["most"] < NODES
    rolled_over = [f"Rolled over into run {run:08d}" for run in range(1, MESSAGES // 2 // RUN_TURNS + 1)]
    assert seen["runs"] == rolled_over
    assert work < 30, "script, style and layout of a step of 1,500 px; 7 ms on a busy machine of two cores"
    await expect(tab.page.locator("#lines article").first).to_contain_text("question 1")
    await tab.page.get_by_role("button", name="To the newest").click()
    await expect(tab.answer).to_contain_text(f"answer {MESSAGES // 2}")
    await expect(tab.answer).to_be_in_viewport()
    assert await nodes(tab) < NODES
    tab.forgive("404")  # Temporal knows no such session: only its transcript is there


async def test_older_messages_come_without_moving_what_is_read(gate: Door, served: Service, open_tab: OpenTab) -> None:
    key = fresh_key()
    write_long(served, key, 600)
    tab = await open_tab(gate, key)
    await expect(tab.answer).to_contain_text("answer 300")
    jumps: list[float] = await tab.js("""async () => {
        const scroller = document.getElementById('scroller'), jumps = [];
        for (let at = 0; at < 150; at += 1) {
            const seen = [...document.querySelectorAll('#lines > *')].find(e => e.getBoundingClientRect().bottom > 200);
            const before = seen.getBoundingClientRect().top, wanted = Math.min(300, scroller.scrollTop);
            scroller.scrollTop -= 300;
            await new Promise(requestAnimationFrame);
            await new Promise(requestAnimationFrame);
            if (seen.isConnected) jumps.push(Math.abs(seen.getBoundingClientRect().top - before - wanted));
        }
        return jumps;
    }""")
    assert len(jumps) > 100
    assert max(jumps) <= 2
    tab.forgive("404")


async def test_a_streamed_answer_moves_nobody_who_reads_above_and_carries_along_who_is_at_the_end(
    gate: Door, served: Service, model: FakeProvider, open_tab: OpenTab
) -> None:
    slow, key = Slow(), fresh_key()
    model.will(says("Hello."), slow.step)
    write_long(served, key, 100)
    await gate.say(key, "hello")
    reader, follower = await open_tab(gate, key), await open_tab(gate, key)
    await follower.say("go on")
    await expect(reader.page.locator("article.user").last).to_contain_text("go on")
    await reader.js("document.getElementById('scroller').scrollTop -= 2000")
    await expect(reader.page.get_by_role("button", name="To the newest")).to_be_visible()
    top = """[...document.querySelectorAll('#lines > *')].map(e => e.getBoundingClientRect())
        .find(place => place.bottom > 200).top"""
    before = await reader.js(top)
    distance = "(s => s.scrollHeight - s.scrollTop - s.clientHeight)(document.getElementById('scroller'))"
    for n in range(30):
        slow.add(f"Paragraph {n} of a long answer.\n\n")
        await expect(follower.answer).to_contain_text(f"Paragraph {n} of")
        assert await follower.js(distance) < 2
    await expect(reader.answer).to_contain_text("Paragraph 29 of")
    assert abs(await reader.js(top) - before) < 2
    slow.end()
    await expect(follower.page.locator("#state")).to_have_text("idle")
    await expect(follower.page.locator("article.live")).to_have_count(0)
    await expect(follower.answer).to_contain_text("Paragraph 29")
    assert await follower.js(distance) < 2
    assert abs(await reader.js(top) - before) < 2

"""The live bus: quick, never durable, never in the way."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agent_session.live.events import DELTA, DROPPED, RETRY, LiveEvent, decode
from agent_session.live.hub import WAITING_EVENTS, LiveHub
from agent_session.live.publisher import LivePublisher
from agent_session.live.watch import watch
from tests.support import Service, fresh_key, live


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[LiveHub]:
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    made = LiveHub(folder)
    await made.start()
    yield made
    await made.stop()


async def collect(folder: Path, session: str, until: str, ready: asyncio.Event) -> list[LiveEvent]:
    found: list[LiveEvent] = []
    async for event in watch(folder, session, ready):
        found.append(event)
        if event.kind == until:
            break
    return found


async def test_two_watchers_see_a_turn_as_it_happens_and_nothing_of_other_sessions(
    make_service: Callable[..., Any], tmp_path: Path
) -> None:
    service: Service = await make_service()
    async with service.worker() as service.services, live(service):
        key, other = fresh_key(), fresh_key()
        ready = [asyncio.Event(), asyncio.Event()]
        watching = [asyncio.create_task(collect(service.settings.data_dir, key, "turn_ended", one)) for one in ready]
        await asyncio.gather(*(one.wait() for one in ready))
        await service.ask(other, "remember elsewhere")
        reply = await service.ask(key, "run echo quick; sleep 0.2; echo brown")
        first, second = await asyncio.wait_for(asyncio.gather(*watching), 30)
    assert first == second
    assert {event.session for event in first} == {key}
    kinds = [event.kind for event in first]
    assert kinds[:2] == ["turn_started", "step"]
    assert kinds.index("tool_started") < kinds.index("tool_output") < kinds.index("tool_finished")
    last_step = [event.text for event in first if event.kind == DELTA and event.step == 2]
    assert "".join(last_step) == reply.text
    assert "quick" in "".join(event.text for event in first if event.kind == "tool_output")


async def test_a_retry_tells_watchers_to_discard_what_they_saw(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    seen: list[LiveEvent] = []

    class Collect:
        def publish(self, event: LiveEvent) -> None:
            seen.append(event)

    async with service.worker() as services:
        services.live = Collect()
        original, tries = services.call_model, 0

        async def breaks_once(prompt: Any, on_text: Any) -> Any:
            nonlocal tries
            tries += 1
            if tries == 1:
                on_text("half an ans")
                raise RuntimeError("the stream broke")
            return await original(prompt, on_text)

        services.call_model = breaks_once  # type: ignore[assignment]
        assert (await service.ask(fresh_key(), "remember it")).ok
    kinds = [event.kind for event in seen]
    assert kinds[:4] == ["turn_started", "step", DELTA, RETRY]


async def test_a_watcher_that_is_too_slow_is_dropped_with_a_note(hub: LiveHub, tmp_path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(tmp_path / "data" / "live.sock")
    writer.write(b'{"role":"watch","session":"s"}\n')
    await reader.readline()
    for number in range(WAITING_EVENTS * 3):
        hub.publish(LiveEvent(session="s", kind=DELTA, text="x" * 1000 + str(number)))
        if number % 500 == 0:
            await asyncio.sleep(0)
    last = None
    async with asyncio.timeout(20):
        while line := await reader.readline():
            last = decode(line)
    writer.close()
    assert last is not None
    assert last.kind == DROPPED


async def test_nobody_watching_and_no_relay_cost_nothing(tmp_path: Path) -> None:
    publisher = LivePublisher(tmp_path)
    running = asyncio.create_task(publisher.run())
    for _ in range(10):
        publisher.publish(LiveEvent(session="s", kind=DELTA, text="x"))
    await asyncio.sleep(0.05)
    assert not publisher.connected
    running.cancel()


async def test_the_socket_is_private_and_takes_over_a_dead_ones_place(hub: LiveHub, tmp_path: Path) -> None:
    path = tmp_path / "data" / "live.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = LiveHub(tmp_path / "data")
    await second.start()
    await second.stop()


async def test_a_long_data_directory_has_a_socket_too(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    hub = LiveHub(folder)
    await hub.start()
    ready = asyncio.Event()
    watching = asyncio.create_task(collect(folder, "s", DELTA, ready))
    await asyncio.wait_for(ready.wait(), 30)
    hub.publish(LiveEvent(session="s", kind=DELTA, text="x"))
    assert [event.text for event in await asyncio.wait_for(watching, 30)] == ["x"]
    await hub.stop()


async def test_peers_that_speak_nonsense_are_hung_up_on(hub: LiveHub, tmp_path: Path) -> None:
    for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"role":"other"}\n', os.urandom(300) + b"\n"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "data" / "live.sock")
        writer.write(greeting)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_a_watcher_that_comes_in_mid_turn_sees_what_the_turn_has_shown_so_far(
    hub: LiveHub, tmp_path: Path
) -> None:
    def say(kind: str, **more: Any) -> None:
        hub.publish(LiveEvent(session="s", kind=kind, turn="t-2", step=1, **more))

    hub.publish(LiveEvent(session="s", kind="step", turn="t-1", step=1, text="an older turn"))
    say("turn_started", text="hello", call="m1")
    say("step")
    say(DELTA, text="thrown away")
    say(RETRY, text="again")
    say("step")
    for piece in ("one ", "two ", "three"):
        say(DELTA, text=piece)
    watcher = watch(tmp_path / "data", "s", replay=True)
    seen = [(await anext(watcher)) for _ in range(4)]
    say("turn_ended", outcome="answered")
    seen.append(await anext(watcher))
    await watcher.aclose()
    assert [(event.kind, event.text) for event in seen] == [
        ("turn_started", "hello"),
        ("step", ""),
        (RETRY, "again"),
        (DELTA, "one two three"),
        ("turn_ended", ""),
    ]
    assert hub.running.of("s") == []

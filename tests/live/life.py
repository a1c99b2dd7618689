"""A process of its own that publishes or watches, for tests between processes: `python -m tests.live.life …`.

publish DATA_DIR URL COUNT NAME KEY…   publishes deltas to each key, then its last event
watch DATA_DIR URL LASTS KEY           prints what it sees, an event a line, until so many last events
"""

import asyncio
import sys
from pathlib import Path

from agent_session.live.bus import live_bus
from agent_session.live.events import TOOL_OUTPUT, LiveEvent, encode
from tests.live.support import publishing, settings_of

LAST = "last"


async def publish(data_dir: str, url: str, count: str, name: str, *keys: str) -> None:
    async with publishing(settings_of(Path(data_dir), url)) as bus:
        for number in range(int(count)):
            for key in keys:
                bus.publish(LiveEvent(session=key, kind=TOOL_OUTPUT, turn="t-1", call=name, text=f"{number}"))
            await asyncio.sleep(0)
        for key in keys:
            bus.publish(LiveEvent(session=key, kind=LAST, call=name))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)  # until the test has seen it


async def watch(data_dir: str, url: str, lasts: str, key: str) -> None:
    ready, left = asyncio.Event(), int(lasts)
    telling = asyncio.create_task(_tell(ready))
    async for event in live_bus(settings_of(Path(data_dir), url)).watch(key, ready):
        print(encode(event).decode(), end="", flush=True)
        left -= event.kind == LAST
        if not left:
            break
    await telling


async def _tell(ready: asyncio.Event) -> None:
    await ready.wait()
    print("ready", flush=True)


if __name__ == "__main__":
    _, what, *words = sys.argv
    asyncio.run({"publish": publish, "watch": watch}[what](*words))

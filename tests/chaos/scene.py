"""A small world for one named loss: a script says words, kills at a chosen moment, and the checker judges the whole.

Each scene keeps the evidence that a random run keeps, so that `checker.py` finds what its script does not look for.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.chaos.checker import check
from tests.chaos.driver import conclude, write_plan
from tests.chaos.plan import Said
from tests.chaos.senders import Senders
from tests.chaos.world import World

PATIENCE_S = 60.0


class Scene:
    """Words said in sessions of their own, and the world that they are said in."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.said: list[Said] = []
        self.sessions: list[str] = []
        self.kills, self._began = 0, time.monotonic()
        self._orders: dict[str, int] = {}
        self._replies: dict[str, asyncio.Task[None]] = {}

    def session(self) -> str:
        """A name of its own; its number stands in its messages' names."""
        self.sessions.append(f"s{len(self.sessions):02}")
        return self.sessions[-1]

    def say(self, session: str, words: str, *, mode: str = "followup", place: str = "") -> str:
        """Begin to say it, and to wait for its reply; returns the message's id."""
        order = self._orders[session] = self._orders.get(session, -1) + 1
        identifier = f"m-{self.sessions.index(session):04}-{order:04}"
        effect = words.split()[1] if words.startswith("do ") else "say"
        one = Said(identifier, session, "a", order, 0.0, mode, f"{identifier} {words}", effect, place)
        self.said.append(one)
        write_plan(self.world, 0, self.said)
        before = f"{identifier[:7]}{order - 1:04}" if order else ""
        self._replies[identifier] = asyncio.create_task(self._say(one, before))
        return identifier

    async def _say(self, one: Said, before: str) -> None:
        """Once the words before it were taken, as a person says them."""
        if before:
            await self.until(lambda: self.noted("messages", lambda it: it["id"] == before and it["what"] == "accepted"))
        await Senders(self.world, (one,)).run(time.monotonic())

    async def reply(self, identifier: str) -> dict[str, Any]:
        """The reply, as it came to who said it."""
        await asyncio.wait_for(asyncio.shield(self._replies[identifier]), PATIENCE_S)
        replies = self.noted("messages", lambda one: one["id"] == identifier and one["what"] == "reply")
        return replies[-1]

    def noted(self, file: str, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        path = self.world.folder / f"{file}.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return [one for one in map(json.loads, lines) if wanted(one)]

    def lines(self, session: str) -> list[dict[str, Any]]:
        path = self.world.transcript(session)
        return [json.loads(raw) for raw in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []

    def posts(self, place: str) -> list[dict[str, Any]]:
        path = self.world.data / "channels" / "file" / f"{place.partition(':')[2]}.jsonl"
        return [json.loads(raw) for raw in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []

    def effects(self, identifier: str) -> int:
        path = self.world.folder / "effects" / f"{identifier[2:6]}.log"
        return path.read_text().split().count(identifier) if path.exists() else 0

    def asked(self, identifier: str) -> int:
        """How often the model was asked with this message as the first unanswered one."""
        return len(self.noted("model", lambda one: one["first"] == identifier))

    async def until(self, what: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
        """Poll the outside world."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = what()
            if found:
                return found
            await asyncio.sleep(0.01)
        raise AssertionError(f"not within {timeout_s:.0f} s")

    async def until_line(self, session: str, **fields: Any) -> dict[str, Any]:
        def find() -> dict[str, Any] | None:
            hits = (one for one in self.lines(session) if all(one.get(name) == value for name, value in fields.items()))
            return next(hits, None)

        return await self.until(find)

    def switch_off(self) -> None:
        """Workers and Temporal die at once."""
        self.kills += self.world.kill_everything()

    async def finish(self) -> None:
        """Wait for every reply, and for what the world came to."""
        await asyncio.wait_for(asyncio.gather(*self._replies.values()), PATIENCE_S)
        await conclude(self.world, self.sessions, 0, self._began, self.kills)


@asynccontextmanager
async def scene(folder: Path, **environment: str) -> AsyncIterator[Scene]:
    """The world of a scene; at its end the checker finds nothing."""
    async with World(folder, workers=1, mounted=False, **environment) as world:
        made = Scene(world)
        yield made
        await made.finish()
    _, verdict = check(folder)
    found = [one for one in verdict.violations if one.kind != "stall"]  # a scene is off for as long as it likes
    assert not found, found

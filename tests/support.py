"""What tests stand on: a real Temporal server, a real worker in this process, a real volume."""

import asyncio
import base64
import json
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from google.protobuf.json_format import MessageToDict
from temporalio.client import Client

from agent_session.client import Reply, SessionClient
from agent_session.connection import connect
from agent_session.domain.ids import workflow_id
from agent_session.live.hub import LiveHub
from agent_session.live.publisher import LivePublisher
from agent_session.operations import Services, load_services
from agent_session.settings import Settings, load_settings
from agent_session.transcript.volume import Volume
from agent_session.worker import channel_worker, session_worker
from channels import load_channel

#: short where a person would wait, so that a fault's whole story fits a test
QUICK: dict[str, Any] = {"volume": {"catch_up_s": 0.5}, "tools": {"shell": {"sandbox": "none"}}}


async def until_true(what: Callable[[], Awaitable[Any]], timeout_s: float = 30) -> Any:
    """Ask until the answer is a true one; returns it. For what comes a moment later, as Temporal's visibility does."""
    async with asyncio.timeout(timeout_s):
        while not (found := await what()):
            await asyncio.sleep(0.1)
    return found


class Proven:
    """A proof that always holds: for tests of the transcript alone."""

    def is_fresh(self) -> bool:
        return True

    def confirm(self) -> None:
        return


class Gate:
    """A shell command that waits. Without a semicolon: the offline model's `tools a; b` splits there."""

    def __init__(self, path: Path) -> None:
        self._opened, script = path.with_suffix(".open"), path.with_suffix(".sh")
        script.write_text(f"until [ -e {self._opened} ]; do sleep 0.05; done\n")
        self.command = f"sh {script}"

    def open(self) -> None:
        """From now on whoever waits, or comes to wait, goes on."""
        self._opened.touch()


class Service:
    """One data volume with its task queue, and workers of this process."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self.settings, self.temporal = settings, client
        self.volume = Volume(settings.data_dir)
        self.client = SessionClient(client, settings, channel="test")
        self.services: Services | None = None

    @asynccontextmanager
    async def worker(self, *channels: str, settings: Settings | None = None) -> AsyncIterator[Services]:
        """A worker, and delivery workers of the named channels, while inside."""
        services = load_services(settings or self.settings)
        client = await connect(self.settings)
        workers = [session_worker(client, services)]
        workers += [channel_worker(client, load_channel(name, self.settings), self.settings) for name in channels]
        running = [asyncio.create_task(one.run()) for one in workers]
        try:
            yield services
        finally:
            await asyncio.gather(*(one.shutdown() for one in workers))
            await asyncio.gather(*running)

    def lines(self, key: str) -> list[dict[str, Any]]:
        """The transcript, as anybody can read it."""
        path = self.volume.path_of(key) / "history.jsonl"
        return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def said(self, key: str) -> list[str]:
        return [line["content"] for line in self.lines(key) if line["role"] == "user"]

    async def ask(self, key: str, text: str, **how: Any) -> Reply:
        return await self.client.ask(key, text, timeout_s=60, **how)

    async def signal(self, key: str, raw: object) -> None:
        """A signal straight to Temporal, past the client."""
        await self.temporal.start_workflow(
            "AgentSessionWorkflow",
            {"key": key},
            id=workflow_id(key),
            task_queue=self.settings.task_queue,
            start_signal="receive",
            start_signal_args=[raw],
        )

    def gate(self) -> "Gate":
        """A command for a tool that ends when the test says so, however long that takes on a busy machine."""
        return Gate(self.settings.data_dir.parent / f"gate-{uuid.uuid4().hex[:8]}")

    async def ask_and_lose(self, key: str, text: str, **how: Any) -> None:
        """A turn that the volume forgets: afterwards an older copy of the transcript is restored."""
        path = self.volume.path_of(key) / "history.jsonl"
        shutil.copy(path, path.with_suffix(".old"))
        await self.ask(key, text, **how)
        os.replace(path.with_suffix(".old"), path)

    async def until(self, key: str, what: Any, timeout_s: float = 30) -> Any:
        """Wait until the session's status satisfies `what`; returns that status."""
        async with asyncio.timeout(timeout_s):
            while True:
                status = await self.client.status(key)
                if what(status):
                    return status
                await asyncio.sleep(0.05)

    async def runs(self, key: str) -> list[str]:
        """Run ids of the session's chain, oldest first."""
        found = [w async for w in self.temporal.list_workflows(f"WorkflowId = '{workflow_id(key)}'")]
        return [w.run_id for w in sorted(found, key=lambda w: w.start_time)]

    async def events(self, key: str, run_id: str | None = None) -> list[Any]:
        handle = self.temporal.get_workflow_handle(workflow_id(key), run_id=run_id)
        return [event async for event in handle.fetch_history_events()]


def decoded(event: Any) -> str:
    """An event as text with every payload decoded, so that a search sees what Temporal stores."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for name, one in value.items():
                if name == "data" and isinstance(one, str):
                    found.append(base64.b64decode(one).decode("utf-8", "replace"))
                else:
                    walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)
        else:
            found.append(str(value))

    walk(MessageToDict(event))
    return "\n".join(found)


def check_transcript(lines: list[dict[str, Any]]) -> None:
    """What every transcript promises: seq without gaps, one result a call, one end a turn, in order."""
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    calls = [call["id"] for line in lines for call in line.get("tool_calls") or []]
    results = [line["call"] for line in lines if line["role"] == "tool"]
    turns = list(dict.fromkeys(line["turn"] for line in lines))
    ended = [line["turn"] for line in lines if line.get("event") == "ended"]
    assert len(set(calls)) == len(calls)
    assert len(set(results)) == len(results)
    open_turn = {lines[-1]["turn"]} - set(ended) if lines else set()
    done = [call for call in calls if not any(call.startswith(turn) for turn in open_turn)]
    assert set(done) <= set(results) <= set(calls)
    assert ended == [turn for turn in turns if turn not in open_turn]


def fresh_key(name: str = "s") -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {name: _merged(below[name], above[name]) for name in below if isinstance(above.get(name), dict)}
    return {**below, **above, **both}


def settings_for(folder: Path, address: str, **more: Any) -> Settings:
    """Settings of a service of its own on a shared Temporal server."""
    given: dict[str, Any] = json.loads(json.dumps(QUICK))
    for name, value in more.items():
        given[name] = _merged(given.get(name, {}), value) if isinstance(value, dict) else value
    return load_settings(
        {"data_dir": folder, "temporal": {"address": address}, "task_queue": f"q-{uuid.uuid4().hex[:8]}", **given}
    )


@asynccontextmanager
async def live(service: Service) -> AsyncIterator[None]:
    """The live bus that `up` runs, with the service's worker on it."""
    assert service.services is not None
    hub = LiveHub(service.settings.data_dir)
    await hub.start()
    publisher = LivePublisher(service.settings.data_dir)
    service.services.live = publisher
    publishing = asyncio.create_task(publisher.run())
    try:
        async with asyncio.timeout(10):
            while not publisher.connected:
                await asyncio.sleep(0.02)
        yield
    finally:
        publishing.cancel()
        await hub.stop()

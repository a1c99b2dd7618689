"""Record Temporal histories of today's workflow code, for `tests/replay` to replay for ever after.

    python scripts/record_histories.py tests/replay/histories/<version> [scenario …]

Each released shape of the workflow gets a folder of its own; a recorded one is never changed.
"""

import asyncio
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from agent_session.client import SessionClient
from agent_session.connection import connect
from agent_session.domain.cards import code_of
from agent_session.domain.ids import workflow_id
from agent_session.ops.deploy.versions import Deployment
from agent_session.ops.embedded import EmbeddedTemporal
from agent_session.transcript.volume import Volume
from tests.support import Service, settings_for


async def plain(service: Service) -> None:
    for number in range(3):
        await service.ask("plain", f"remember {number}")


async def tools(service: Service) -> None:
    await service.ask("tools", "tools run echo a; write f b; read nothing")
    await service.client.send("tools", "run sleep 1", id="slow", reply_address="file:out")
    await service.until("tools", lambda status: status.tools)
    await service.client.send("tools", "remember steering", id="steer", mode="steer", reply_address="file:out")
    await service.client.await_reply("tools", "steer")
    await service.until("tools", lambda status: not status.deliveries)


async def stops(service: Service) -> None:
    for how in ("cancel", "interrupt"):
        await service.client.send("stops", "run sleep 60", id=how)
        await service.until("stops", lambda status: status.tools)
        if how == "cancel":
            await service.client.cancel("stops")
        else:
            await service.client.send("stops", "remember me", id="now", mode="interrupt")
        await service.client.await_reply("stops", how)
    await service.client.close("stops")


async def approval(service: Service) -> None:
    await service.client.send("approval", "run echo x", id="a")
    status = await service.until("approval", lambda status: status.state == "waiting approval")
    (waiting,) = service.client.waiting_calls("approval", status)
    await service.client.roll_over("approval")
    await service.until("approval", lambda status: status.roll_overs == 1 and status.state == "waiting approval")
    await service.client.resolve("approval", waiting["call"], waiting["digest"], "allow")
    await service.client.await_reply("approval", "a")


async def asides(service: Service) -> None:
    """Slash commands in mid-turn, words while a call waits, a pattern allowed, a model chosen, through a roll-over."""
    await service.client.send("asides", "run git status", id="a", reply_address="file:out")
    await service.until("asides", lambda status: status.state == "waiting approval")
    await service.ask("asides", "remember blue", reply_address="file:out")
    await service.client.roll_over("asides")
    status = await service.until("asides", lambda status: status.roll_overs == 1 and status.state == "waiting approval")
    (call,) = service.client.waiting_calls("asides", status)
    await service.ask("asides", f"/allow {code_of(call)} always")
    await service.client.await_reply("asides", "a")
    for words in ("/status", "/model offline", "/new", "run git status"):
        await service.ask("asides", words)
    await service.until("asides", lambda status: not status.deliveries)


async def flood(service: Service) -> None:
    await service.client.send("flood", "run sleep 4", id="slow")
    await service.until("flood", lambda status: status.tools)
    for number in range(130):
        await service.client.send("flood", f"{number} " + "x" * 1400, id=str(number))
    await service.until("flood", lambda status: not status.queue and status.state == "idle", 60)


async def refused(service: Service) -> None:
    await service.ask("refused", "hello")
    handle = service.temporal.get_workflow_handle(workflow_id("refused"))
    await handle.signal("receive", "unreadable")
    await handle.signal("receive", {"id": "x", "channel": "test", "text": "unsigned"})
    await service.until("refused", lambda status: status.last_error == "not_signed")


async def failed(service: Service) -> None:
    await service.ask("failed", "call no_such_tool {}")
    await service.client.run_once("hello", "once")


async def beats(service: Service) -> None:
    """Beats that run, are skipped, interrupted and stopped by the day's tokens, and a notice, through a roll-over."""
    client, key = service.client, "beats"
    await service.ask(key, "remember me", reply_address="file:out")
    speaker = SessionClient(service.temporal, service.settings, channel="heartbeat", principal="heartbeat:beats")
    speaker.grants = ()
    await service.until(key, lambda status: status.state == "idle")
    await speaker.send(key, "remember the beat", id="1", kind="heartbeat", reply_address="file:out", start=False)
    await service.until(key, lambda status: status.beats == 1 and not status.deliveries)
    await client.send(key, "sleep 2", id="slow")
    await service.until(key, lambda status: status.state == "running")
    await speaker.send(key, "remember nothing", id="2", kind="heartbeat", reply_address="file:out", start=False)
    await speaker.send(key, "approve it", id="n", kind="notice", reply_address="file:out", start=False)
    await client.await_reply(key, "slow")
    await service.temporal.get_workflow_handle(workflow_id(key)).signal("beat_skipped", "hours")
    await client.roll_over(key)
    await service.until(key, lambda status: status.roll_overs == 1 and not status.deliveries)
    await speaker.send(key, "sleep 60", id="3", kind="heartbeat", reply_address="file:out", start=False)
    await service.until(key, lambda status: status.state == "running")
    await service.ask(key, "remember that people go first")
    await service.until(key, lambda status: status.state == "idle" and status.beats == 2)
    await speaker.send(key, "run true", id="4", kind="heartbeat", reply_address="file:out", start=False)
    await service.until(key, lambda status: status.beats == 3)
    await speaker.send(key, "remember nothing", id="5", kind="heartbeat", reply_address="file:out", start=False)
    await service.until(key, lambda status: status.beat_skip == "budget" and status.beats_skipped >= 3)


async def scheduled(service: Service) -> None:
    """What Temporal's schedules start, with nothing there to send."""
    for kind, argument in (("HeartbeatWorkflow", {"key": "none"}), ("ScheduledMessageWorkflow", {"key": "none"})):
        queue = service.settings.task_queue
        await service.temporal.execute_workflow(kind, argument, id=workflow_id(kind), task_queue=queue)


async def halfway(service: Service) -> None:
    """A turn that goes on in the next run, twice: once its step is over, with messages and deliveries in hand."""
    await service.client.send("halfway", "tools run sleep 1; run sleep 1", id="a", reply_address="file:out")
    for number in (1, 2):
        await service.until("halfway", lambda status: status.tools)
        await service.client.send("halfway", f"remember {number}", id=str(number), reply_address="file:out")
        await service.client.roll_over("halfway")
        await service.until("halfway", lambda status, number=number: status.roll_overs >= number)
        await service.client.send("halfway", "tools run sleep 1; run sleep 1", id=f"{number}-again")
    await service.client.await_reply("halfway", "2-again")
    await service.until("halfway", lambda status: not status.deliveries and status.state == "idle")


async def aliases(service: Service) -> None:
    """Another word for a command, in mid-turn."""
    await service.client.send("aliases", "run echo x", id="a")
    status = await service.until("aliases", lambda status: status.state == "waiting approval")
    (call,) = service.client.waiting_calls("aliases", status)
    await service.ask("aliases", f"/approve {code_of(call)}")
    await service.client.await_reply("aliases", "a")


async def versions(service: Service) -> None:
    """A session that is pinned to a build, and moves as it rolls over."""
    deployment = Deployment(service.temporal, "recorded", service.settings.task_queue)
    await deployment.make_current("one", wait_s=30)
    await service.ask("versions", "remember blue")
    await service.client.roll_over("versions")
    await service.until("versions", lambda status: status.roll_overs == 1)
    await service.ask("versions", "what did I say?")


SCENARIOS = (
    plain,
    tools,
    stops,
    approval,
    asides,
    flood,
    refused,
    failed,
    beats,
    scheduled,
    halfway,
    aliases,
    versions,
)
KEYS = {failed: ("failed", "once"), scheduled: ("HeartbeatWorkflow", "ScheduledMessageWorkflow")}


async def main(folder: Path, names: list[str]) -> None:
    chosen = [scenario for scenario in SCENARIOS if not names or scenario.__name__ in names]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        server = EmbeddedTemporal(None, Path(scratch) / "log")
        await server.start()
        for number, scenario in enumerate(chosen):
            more: dict[str, Any] = {"tools": {"ask": ["shell"]}} if scenario in (approval, asides, aliases) else {}
            more |= {"heartbeat": {"daily_tokens": 40}} if scenario is beats else {}
            more |= {"worker": {"deployment": "recorded", "build_id": "one"}} if scenario is versions else {}
            settings = settings_for(Path(scratch) / str(number), server.address, **more)
            Volume(settings.data_dir).create()
            service = Service(settings, await connect(settings))
            async with service.worker("file"):
                await scenario(service)
            for key in KEYS.get(scenario, (scenario.__name__,)):
                for run, run_id in enumerate(await service.runs(key)):
                    handle = service.temporal.get_workflow_handle(workflow_id(key), run_id=run_id)
                    text = (await handle.fetch_history()).to_json()
                    (folder / f"{key}-{run}.json").write_text(re.sub(r"\d+@[^\"]*", "worker", text))
        await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))

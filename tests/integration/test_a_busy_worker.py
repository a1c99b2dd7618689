"""A worker that is late, and has its sessions in memory, is waited for: any other would replay them from their
beginning, and a service that replays gets less done and later."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import EventType

from tests.deploys.support import site_of
from tests.support import Service, fresh_key

SESSIONS = 16  #: more than a worker's polls, of which each takes one task at once
LATE_S = 1.5


async def test_tasks_of_sessions_in_memory_wait_for_a_worker_that_is_late(
    make_service: Callable[..., Any], tmp_path: Path
) -> None:
    service: Service = await make_service()
    keys = [fresh_key() for _ in range(SESSIONS)]
    async with site_of(service, tmp_path / "logs") as site:
        worker = site.worker("")
        await asyncio.gather(*(service.ask(key, "remember blue") for key in keys))
        worker.send(signal.SIGSTOP)
        await asyncio.gather(*(service.client.send(key, "what did I say?", id="again") for key in keys))
        await asyncio.sleep(LATE_S)  # time is what this is about
        worker.send(signal.SIGCONT)
        replies = await asyncio.gather(*(service.client.await_reply(key, "again", timeout_s=60) for key in keys))

    assert all("blue" in reply.text for reply in replies)
    events = [event for key in keys for event in await service.events(key)]
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT not in {event.event_type for event in events}

"""What a process needs to do its work, tried: Temporal, the volume, a worker. Asking often costs no more than
asking once a second."""

import asyncio
import os
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.client import Client
from temporalio.service import RPCError

from agent_session.connection import pollers
from agent_session.paths import folder, write_whole
from agent_session.transcript.volume import Volume

TRY_S = 3.0  #: each part, at most
KNOWN_S = 1.0  #: for so long an answer counts
POLLED_S = 75.0  #: a poll lasts a minute
FILE = ".gateway-probe"


@dataclass(frozen=True)
class Found:
    temporal: bool
    volume: bool
    worker: bool  #: one polls, or did in the last minute

    @property
    def ready(self) -> bool:
        return self.temporal and self.volume and self.worker


class Probe:
    """One a process."""

    def __init__(
        self,
        temporal: Client,
        volume: Volume,
        task_queue: str,
        *,
        identity: str = "",
        kind: TaskQueueType.ValueType = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    ) -> None:
        """`identity`: only that worker counts. No task queue: no worker need poll."""
        self._temporal, self._volume, self._task_queue = temporal, volume, task_queue
        self._identity, self._kind = identity, kind
        self._file = f"{FILE}-{uuid.uuid4().hex[:12]}"  # processes of many machines share a volume, and pids repeat
        self._asking, self._connecting = asyncio.Lock(), asyncio.Lock()
        self._known: tuple[float, Found] | None = None
        self._connected: tuple[float, bool] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="probe")  # its own: a mount may hang for ever
        self._writing: Future[None] | None = None

    async def found(self) -> Found:
        async with self._asking:
            if self._known is None or time.monotonic() - self._known[0] > KNOWN_S:
                temporal, volume = await asyncio.gather(self.connected(), self._volume_takes())
                worker = temporal and await self._worker_polls()
                self._known = time.monotonic(), Found(temporal, volume, worker)
            return self._known[1]

    async def connected(self) -> bool:
        """Whether Temporal answers. Waits for no volume and no worker."""
        async with self._connecting:
            if self._connected is None or time.monotonic() - self._connected[0] > KNOWN_S:
                answers = await self._temporal_answers()
                self._connected = time.monotonic(), answers
            return self._connected[1]

    async def _temporal_answers(self) -> bool:
        with suppress(RPCError, TimeoutError):
            async with asyncio.timeout(TRY_S):
                return await self._temporal.service_client.check_health(timeout=timedelta(seconds=TRY_S))
        return False

    async def _worker_polls(self) -> bool:
        if not self._task_queue:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(TRY_S):
                found = await pollers(self._temporal, self._task_queue, within_s=POLLED_S, kind=self._kind)
                return self._identity in found if self._identity else bool(found)
        return False

    async def _volume_takes(self) -> bool:
        if self._writing is not None and not self._writing.done():
            return False
        self._writing = self._thread.submit(self._write)
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(TRY_S):
                await asyncio.shield(asyncio.wrap_future(self._writing))
            return True
        return False

    def _write(self) -> None:
        self._volume.check()
        with folder(self._volume.root) as handle:
            write_whole(handle, self._file, b"")
            os.unlink(self._file, dir_fd=handle)

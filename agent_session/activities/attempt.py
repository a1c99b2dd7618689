"""One run of work in this process, and the attempts of Temporal that stand behind it (I4).

An attempt that finds its work still running here joins it. The run's *proof* is a heartbeat that the
server answered for the newest attempt: a stale attempt gets NotFound and does nothing, so a worker that
was paused and wakes up neither writes nor acts. `activity.heartbeat()` alone tells nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from temporalio import activity
from temporalio.client import AsyncActivityCancelledError, Client
from temporalio.service import RPCError, RPCStatusCode

FRESH_S = 3.0
GRACE_S = 3.0  #: how long a run whose attempt was lost waits for the retry to join it
CONFIRM_DEADLINE_S = 60.0
BEAT_S = 1.0


class StaleAttempt(Exception):
    """Another attempt has taken over, or may have: nothing more is written or done."""


class Unproven(Exception):
    """The server could not be asked in time. Retried."""


def boot_time() -> float:
    """Seconds that also pass while the machine sleeps, where the system can tell."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@dataclass
class Faults:
    """What earlier attempts died of, carried from attempt to attempt in the heartbeat's details."""

    model: int = 0
    raised: int = 0  #: attempts that ended with an error of ours; the others lost their worker

    def wire(self) -> list[int]:
        return [self.model, self.raised]


def faults_so_far() -> Faults:
    details = activity.info().heartbeat_details
    if details and isinstance(details[0], list):
        model, raised = cast(list[int], details[0])
        return Faults(model=model, raised=raised)
    return Faults()


class Run:
    """Work in progress; a `Proof` for what it writes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._token = b""
        self._proved = 0.0
        self._faults = Faults()
        self._newest: activity.Info | None = None
        self.attempt = 0
        self.why_cancelled = ""  #: cancelled, shutdown or lost

    def join(self, info: activity.Info, faults: Faults) -> None:
        """The newest attempt stands behind this run from now on. A worker that was paused may be handed an older
        one after it: the server knows that one no longer."""
        if self._newest is not None and not _is_newer(info, self._newest):
            return
        self._newest = info
        since_start = (datetime.now(UTC) - info.started_time).total_seconds()  # it may have been paused since
        self._token, self._proved, self.attempt = info.task_token, boot_time() - max(0.0, since_start), info.attempt
        self._faults = faults

    def is_fresh(self) -> bool:
        return boot_time() - self._proved < FRESH_S

    def confirm(self) -> None:
        """For threads. Errors: StaleAttempt, Unproven."""
        asyncio.run_coroutine_threadsafe(self.prove(), self._loop).result(CONFIRM_DEADLINE_S + 15)

    async def prove(self) -> None:
        """Ask the server. Waits while it is away, and a moment for a retry to join. Errors: StaleAttempt,
        Unproven."""
        began, stale_since = boot_time(), 0.0
        while True:
            token, asked = self._token, boot_time()
            try:
                await self._client.get_async_activity_handle(task_token=token).heartbeat(self._faults.wire())
            except AsyncActivityCancelledError:
                pass  # asked to stop, yet still the current attempt
            except RPCError as error:
                stale = error.status == RPCStatusCode.NOT_FOUND
                stale_since = (stale_since or asked) if stale and token == self._token else 0.0
                if stale_since and boot_time() - stale_since > GRACE_S:
                    raise StaleAttempt("the server no longer knows this attempt") from None
                if boot_time() - began > CONFIRM_DEADLINE_S:
                    raise Unproven(f"Temporal did not answer for {CONFIRM_DEADLINE_S:.0f} s") from None
                await asyncio.sleep(0.2)
                continue
            self._proved = asked
            return


class Runs:
    """The work of this process, by name."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._running: dict[str, tuple[Run, asyncio.Task[Any]]] = {}

    async def join(self, name: str, work: Callable[[Run], Awaitable[Any]], faults: Faults) -> Any:
        """Do the work, or join it where it is already being done. Heartbeats meanwhile."""
        run, task = self._running.get(name) or self._start(name, work)
        run.join(activity.info(), faults)
        beat = asyncio.create_task(_beat(faults))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            return await self._cancelled(run, task)
        finally:
            beat.cancel()

    def _start(self, name: str, work: Callable[[Run], Awaitable[Any]]) -> tuple[Run, "asyncio.Task[Any]"]:
        run = Run(self._client)

        async def whole() -> Any:
            try:
                return await work(run)
            finally:
                self._running.pop(name, None)

        task = asyncio.create_task(whole())
        task.add_done_callback(_consume)
        self._running[name] = run, task
        return run, task

    async def _cancelled(self, run: Run, task: "asyncio.Task[Any]") -> Any:
        """This attempt is over: asked to, because the worker stops, or because the server lost it."""
        if task.done():
            return task.result()
        details = activity.cancellation_details()
        attempt = activity.info().attempt  # ours, not that of a retry that may have joined already
        if details is not None and (details.not_found or details.timed_out or details.reset):
            asyncio.get_running_loop().call_later(GRACE_S, _give_up, run, task, attempt)
            raise asyncio.CancelledError
        run.why_cancelled = "shutdown" if details is not None and details.worker_shutdown else "cancelled"
        task.cancel()
        return await task


def _is_newer(info: activity.Info, known: activity.Info) -> bool:
    if (info.workflow_run_id, info.activity_id) == (known.workflow_run_id, known.activity_id):
        return info.attempt > known.attempt
    return info.current_attempt_scheduled_time >= known.current_attempt_scheduled_time


def _give_up(run: Run, task: "asyncio.Task[Any]", attempt: int) -> None:
    if run.attempt == attempt and not task.done():
        run.why_cancelled = "lost"
        task.cancel()


async def _beat(faults: Faults) -> None:
    while True:
        activity.heartbeat(faults.wire())
        await asyncio.sleep(BEAT_S)


def _consume(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()

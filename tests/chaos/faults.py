"""The faults of a plan, done to a world; each is noted with its start and its end.

A fault ends when what it took away is there again: a killed worker when its successor polls, a killed server
when it serves. Must not judge: the checker does.
"""

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.chaos.evidence import TORN
from tests.chaos.plan import Fault
from tests.chaos.process import run
from tests.chaos.world import World, session_of

REMOUNT_TRIES = 200


class Faults:
    """Carries the plan out. `kills` counts the processes that were killed with SIGKILL."""

    def __init__(self, world: World, faults: tuple[Fault, ...]) -> None:
        self._world, self._faults = world, faults
        self.kills = 0
        self._busy = [asyncio.Lock() for _ in world.workers]
        self._server, self._volume, self._door = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
        self._channel = asyncio.Lock()

    async def run(self, began: float) -> None:
        """Until the last fault has ended."""
        async with asyncio.TaskGroup() as group:
            for fault in self._faults:
                group.create_task(self._at(began + fault.at_s, fault))

    async def _at(self, when: float, fault: Fault) -> None:
        await asyncio.sleep(max(0.0, when - time.monotonic()))
        await getattr(self, f"_{fault.kind}")(fault)

    @asynccontextmanager
    async def _noted(self, kind: str, **more: Any) -> AsyncIterator[dict[str, Any]]:
        entry: dict[str, Any] = {"kind": kind, "start": time.monotonic(), **more}
        try:
            yield entry
        finally:
            self._world.evidence.note("faults", **entry, end=time.monotonic())

    async def _kill(self, fault: Fault) -> None:
        number = fault.target % len(self._world.workers)
        async with self._busy[number]:  # a stopped one is continued first, a dead one is up again
            async with self._noted("kill_worker", worker=number, life=self._world.worker_lives[number]):
                worker = self._world.workers[number]
                self.kills += worker is not None and worker.kill()
                await self._world.restart_worker(number)

    async def _stop(self, fault: Fault) -> None:
        """A zombie: it wakes when others have long taken its work. Now and then it is killed as it sleeps."""
        number = fault.target % len(self._world.workers)
        async with self._busy[number]:
            async with self._noted("stop_worker", worker=number, life=self._world.worker_lives[number]) as entry:
                worker = self._world.workers[number]
                assert worker is not None
                worker.send(signal.SIGSTOP)
                entry["locked"] = await asyncio.to_thread(locked_by, worker.pid, self._world.data)
                await asyncio.sleep(fault.length_s)
                if fault.target % 7 == 0:
                    self.kills += worker.kill()
                    entry["killed"] = time.monotonic()
                    await self._world.restart_worker(number)
                worker.send(signal.SIGCONT)

    async def _drain(self, fault: Fault) -> None:
        """Asked to end, then killed in the middle of ending."""
        number = fault.target % len(self._world.workers)
        async with self._busy[number]:
            async with self._noted("kill_in_drain", worker=number, life=self._world.worker_lives[number]) as entry:
                worker = self._world.workers[number]
                assert worker is not None
                worker.send(signal.SIGTERM)
                await asyncio.sleep(fault.length_s / 2)
                self.kills += worker.kill()
                entry["killed"] = time.monotonic()
                await self._world.restart_worker(number)

    async def _temporal(self, fault: Fault) -> None:
        async with self._server, self._noted("kill_temporal"):
            temporal = self._world.temporal
            self.kills += temporal is not None and temporal.kill()
            await asyncio.sleep(fault.length_s)
            await self._world.start_temporal()

    async def _gateway(self, fault: Fault) -> None:
        async with self._door, self._noted("kill_gateway"):
            gateway = self._world.gateway
            self.kills += gateway is not None and gateway.kill()
            await asyncio.sleep(fault.length_s)
            await self._world.start_gateway()

    async def _slack(self, fault: Fault) -> None:
        async with self._channel, self._noted("kill_slack"):
            slack = self._world.slack
            self.kills += slack is not None and slack.kill()
            await asyncio.sleep(fault.length_s)
            await self._world.start_slack()

    async def _model(self, fault: Fault) -> None:
        async with self._noted(f"model_{fault.how}"):
            await self._world.model_fault(fault.how, fault.length_s)
            await asyncio.sleep(fault.length_s)

    async def _full(self, fault: Fault) -> None:
        """Not a byte is free, for as long as the fault lasts."""
        if not self._world.mounted:
            return
        ballast = self._world.data / "ballast"
        async with self._volume, self._noted("disk_full"):
            try:
                await asyncio.to_thread(_fill, ballast)
                until = time.monotonic() + fault.length_s
                while time.monotonic() < until:
                    await asyncio.sleep(0.2)
                    await asyncio.to_thread(_fill, ballast)  # what a taken-back write freed
            finally:
                ballast.unlink(missing_ok=True)

    async def _read_only(self, fault: Fault) -> None:
        if not self._world.mounted:
            return
        async with self._volume:
            async with self._noted("read_only") as entry:
                entry["done"] = await self._remount("ro")
                entry["start"] = time.monotonic()  # until now everything could be written
                if entry["done"]:
                    await asyncio.sleep(fault.length_s)
                    await self._remount("rw")

    async def _remount(self, how: str) -> bool:
        """The kernel refuses `ro` while a file is open for writing: try until there is a moment."""
        for _ in range(REMOUNT_TRIES):
            done = await asyncio.to_thread(run, "mount", "-o", f"remount,{how}", str(self._world.data), check=False)
            if done.returncode == 0:
                return True
            await asyncio.sleep(0.01)
        return False

    async def _torn(self, fault: Fault) -> None:
        """Half a line at the end, as a writer leaves it that dies in mid-write: put there under the lock."""
        paths = sorted(self._world.data.glob("sessions/*/*/history.jsonl"))
        if paths:
            path = paths[fault.target % len(paths)]
            async with self._noted("torn_line", session=session_of(path)) as entry:
                entry["done"] = await asyncio.to_thread(_tear, path)


def locked_by(pid: int, data: Path) -> list[str]:
    """The sessions whose transcript that process has locked, as the kernel says."""
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    inodes = {int(one[5].rpartition(":")[2]) for one in locks if one[1] == "FLOCK" and one[4] == str(pid)}
    paths = data.glob("sessions/*/*/history.jsonl")
    return sorted(session_of(path) for path in paths if path.stat().st_ino in inodes)


def _fill(ballast: Any) -> None:
    with open(ballast, "ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def _tear(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    except OSError:
        return False  # read-only just now
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = os.fstat(descriptor).st_size
        with open(path, "rb") as file:
            file.seek(max(0, size - 1))
            if size and file.read(1) != b"\n":
                return False  # torn already
        os.write(descriptor, TORN)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)

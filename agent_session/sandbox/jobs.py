"""Shell jobs that outlive their step: servers, long builds.

A job lives in the worker that started it and dies with it; its log and state lie in the session's folder,
outside the workspace, so that any worker can tell its fate. Whether it still runs is told by a lock that
the job's launcher holds: a free lock without a recorded end means that its worker died, and the job too.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson

from agent_session.paths import UnsafePath, folder, is_locked, open_regular, parts_of, read_regular, write_whole
from agent_session.sandbox.command import CannotStart, Command
from agent_session.settings import ToolsSettings

FOLDER = "jobs"
LOG_BYTES = 16 * 1024 * 1024  #: of one job's output; then the older half is dropped
STATE_BYTES = 64 * 1024
COMMAND_BYTES = 32 * 1024
NAME_CHARS = 100
LOOK_S = 0.5
RUNNING, ENDED, STOPPED, LOST = "running", "ended", "stopped", "lost"


class NoSuchJob(Exception):
    """This session has no job of that id."""


@dataclass(frozen=True)
class Job:
    """What is known of a job."""

    id: str
    command: str
    started_s: int
    state: str = RUNNING
    code: int = 0
    dropped_bytes: int = 0  #: of the log's beginning


class Jobs:
    """The jobs of one session, in `<session>/jobs`."""

    def __init__(self, session: Path) -> None:
        self._session = session

    async def start(self, id: str, command: str, workspace: Path, settings: ToolsSettings) -> None:
        """Start it and keep its output until it ends. Errors: CannotStart, OSError."""
        if len(command.encode("utf-8", "surrogatepass")) > COMMAND_BYTES or not _is_text(command):
            raise CannotStart(f"a job's command is text of at most {COMMAND_BYTES} bytes: put the rest into a script")
        job = Job(id, command, int(time.time()))
        with self._folder(create=True) as handle:
            lock = open_regular(handle, f"{id}.lock", os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                log = open_regular(handle, f"{id}.log", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
                write_whole(handle, f"{id}.json", orjson.dumps(asdict(job)))
                running = await Command.start(command, workspace, settings, lock)
            except BaseException:
                os.close(lock)
                with suppress(FileNotFoundError):
                    os.unlink(f"{id}.json", dir_fd=handle)
                raise
        task = asyncio.create_task(self._keep(job, running, log, lock))
        _kept.add(task)
        task.add_done_callback(_kept.discard)

    def look(self, id: str) -> Job:
        """Its state now. Errors: NoSuchJob."""
        try:
            with self._folder() as handle:
                job = Job(**orjson.loads(read_regular(handle, f"{_safe(id)}.json", STATE_BYTES)))
                if job.state == RUNNING and not _is_locked(handle, f"{id}.lock"):
                    again = Job(**orjson.loads(read_regular(handle, f"{id}.json", STATE_BYTES)))
                    return replace(job, state=LOST) if again.state == RUNNING else again
                return job
        except FileNotFoundError:
            raise NoSuchJob(f"there is no job {id!r}; shell_poll without a job lists them") from None

    def all(self) -> list[Job]:
        """Oldest first."""
        try:
            with self._folder() as handle:
                names = sorted(name for name in os.listdir(handle) if name.endswith(".json"))
        except FileNotFoundError:
            return []
        found: list[Job] = []
        for name in names:
            with suppress(NoSuchJob, OSError, ValueError, TypeError):  # one that cannot be read hides no other
                found.append(self.look(name.removesuffix(".json")))
        return sorted(found, key=lambda job: job.started_s)

    def output(self, id: str, first_byte: int, limit: int) -> tuple[bytes, int]:
        """A piece of what it printed, and where the next one begins; a negative `first_byte` counts from
        the end. Errors: NoSuchJob."""
        job = self.look(id)
        with self._folder() as handle:
            log = open_regular(handle, f"{id}.log", os.O_RDONLY)
        try:
            whole = job.dropped_bytes + os.fstat(log).st_size
            first = max(whole + first_byte if first_byte < 0 else first_byte, job.dropped_bytes)
            data = os.pread(log, limit, first - job.dropped_bytes)
            return data, first + len(data)
        finally:
            os.close(log)

    def ask_to_stop(self, id: str) -> None:
        """Its worker sees this within half a second. Errors: NoSuchJob."""
        self.look(id)
        with self._folder() as handle:
            write_whole(handle, f"{id}.stop", b"")

    async def ended(self, id: str, patience_s: float) -> Job:
        """Wait until it has ended, or until `patience_s` are over."""
        deadline = time.monotonic() + patience_s
        while (job := await asyncio.to_thread(self.look, id)).state == RUNNING and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_S / 5)
        return job

    async def _keep(self, job: Job, running: Command, log: int, lock: int) -> None:
        """Write its output down until it ends, is stopped, or this worker stops. The lock is shared with the
        launcher and given back once the end is written: until then nobody takes the job for lost."""
        pumping = asyncio.create_task(self._pump(job, running, log))
        try:
            while not pumping.done():
                await asyncio.wait({pumping}, timeout=LOOK_S)
                if not pumping.done() and self._should_stop(job.id):
                    job = replace(job, state=STOPPED)
                    await running.end(read_by_another=True)
        except asyncio.CancelledError:  # the worker stops
            job = replace(job, state=LOST)
            raise
        finally:
            await running.end(read_by_another=not pumping.done())
            with suppress(asyncio.CancelledError, OSError):
                job = replace(job, dropped_bytes=await asyncio.wait_for(pumping, 5))
            os.close(log)
            state = ENDED if job.state == RUNNING else job.state
            self._write(replace(job, state=state, code=running.process.returncode or 0))
            os.close(lock)

    async def _pump(self, job: Job, running: Command, log: int) -> int:
        """Returns how many bytes of the beginning were dropped."""
        assert running.process.stdout is not None
        size = dropped = 0
        while data := await running.process.stdout.read(64 * 1024):
            size += os.write(log, data)
            if size > LOG_BYTES:
                kept = os.pread(log, LOG_BYTES // 2, size - LOG_BYTES // 2)
                dropped += size - len(kept)
                os.ftruncate(log, 0)
                os.lseek(log, 0, os.SEEK_SET)
                size = os.write(log, kept)
                self._write(replace(job, dropped_bytes=dropped))
        await running.process.wait()
        return dropped

    def _should_stop(self, id: str) -> bool:
        with suppress(OSError):
            with self._folder() as handle:
                os.stat(f"{id}.stop", dir_fd=handle)
                return True
        return False

    def _write(self, job: Job) -> None:
        with suppress(OSError):  # the volume is away: a job that runs is then told by its lock alone
            with self._folder(create=True) as handle:
                write_whole(handle, f"{job.id}.json", orjson.dumps(asdict(job)))

    @contextmanager
    def _folder(self, *, create: bool = False) -> Generator[int]:
        with folder(self._session, FOLDER, create=create) as handle:
            yield handle


_kept: set[asyncio.Task[None]] = set()  #: a task that nobody refers to may be collected while it runs


def _is_text(command: str) -> bool:
    try:
        command.encode()
        return True
    except UnicodeEncodeError:
        return False


def _safe(id: str) -> str:
    try:
        (name,) = parts_of(id if len(id) <= NAME_CHARS else "a/b")
        return name
    except (UnsafePath, ValueError):
        raise NoSuchJob(f"{id!r} is no job id") from None


def _is_locked(handle: int, name: str) -> bool:
    return is_locked(open_regular(handle, name, os.O_RDWR))

"""Workers and the queue before them, as Temporal deals tasks out: any worker of the build with a free slot takes
the next one, people's before the heartbeats'. Knows nothing of sessions but their numbers."""

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from random import Random
from typing import Any

PEOPLE, BEHIND = 0, 1


@dataclass(eq=False, slots=True)
class Task:
    """One activity of a turn; `attempt` rises when a worker is lost."""

    turn: Any
    work_s: float
    rank: int
    offered_s: float = 0.0
    waited_s: float = 0.0
    attempt: int = 1
    slot: int = -1
    began_s: float = 0.0


@dataclass(eq=False)
class Worker:
    """One process with one CPU: what its steps compute is done one after another."""

    name: int
    slots: int
    made_s: float
    free: list[int] = field(default_factory=list[int])
    running: set[Task] = field(default_factory=set[Task])
    cached: OrderedDict[int, None] = field(default_factory=OrderedDict[int, None])
    cpu_at_s: float = 0.0
    ready: bool = False
    stopping: bool = False
    gone: str = ""  #: "stopped" or "crashed"
    place: int = -1  #: in the pool's list of those with a free slot

    def compute(self, now_s: float, cpu_s: float) -> float:
        """When that is done, behind all that it has to compute already."""
        self.cpu_at_s = max(now_s, self.cpu_at_s) + cpu_s
        return self.cpu_at_s

    def remember(self, session: int, most: int) -> None:
        """Least recently used sessions leave the cache first."""
        self.cached[session] = None
        self.cached.move_to_end(session)
        if len(self.cached) > most:
            self.cached.popitem(last=False)


class Pool:
    """The workers of one build, and their task queue."""

    def __init__(self, build: int, source: Random) -> None:
        self.build = build
        self.workers: dict[int, Worker] = {}
        self.busy = 0
        self._source = source
        self._open: list[Worker] = []  #: those with a free slot
        self._ready: list[Worker] = []
        self._queue: list[tuple[int, int, Task]] = []
        self._count = 0

    @property
    def backlog(self) -> int:
        return len(self._queue)

    def offer(self, task: Task, now_s: float) -> None:
        self._count += 1
        task.offered_s = now_s
        heapq.heappush(self._queue, (task.rank, self._count, task))

    def take(self) -> tuple[Task, Worker] | None:
        """The next task and a worker for it, by chance among those that can; None while there is no such pair."""
        if not (self._queue and self._open):
            return None
        worker = self._open[int(self._source.random() * len(self._open))]
        task = heapq.heappop(self._queue)[2]
        task.slot = worker.free.pop()
        worker.running.add(task)
        self.busy += 1
        if not worker.free:
            self._close(worker)
        return task, worker

    def give_back(self, task: Task, worker: Worker) -> None:
        """The slot is free again."""
        worker.running.remove(task)
        worker.free.append(task.slot)
        self.busy -= 1
        if len(worker.free) == 1 and worker.ready and not worker.stopping:
            self._reopen(worker)

    def add(self, worker: Worker) -> None:
        self.workers[worker.name] = worker

    def is_ready(self, worker: Worker) -> None:
        worker.ready, worker.free = True, list(range(worker.slots))
        self._ready.append(worker)
        self._reopen(worker)

    def close(self, worker: Worker) -> None:
        """It takes no more tasks."""
        if worker.place >= 0:
            self._close(worker)
        if worker in self._ready:
            self._ready.remove(worker)

    def forget(self, worker: Worker, why: str) -> list[Task]:
        """It is gone; returns what it was doing."""
        self.close(worker)
        worker.gone = why
        lost = sorted(worker.running, key=lambda task: task.slot)
        self.busy -= len(lost)
        worker.running.clear()
        self.workers.pop(worker.name, None)
        return lost

    def any_ready(self) -> Worker | None:
        """One that polls, by chance: where a workflow task goes that no worker has cached."""
        return self._ready[int(self._source.random() * len(self._ready))] if self._ready else None

    def ready_count(self) -> int:
        return len(self._ready)

    def _reopen(self, worker: Worker) -> None:
        worker.place = len(self._open)
        self._open.append(worker)

    def _close(self, worker: Worker) -> None:
        last = self._open.pop()
        if last is not worker:
            self._open[worker.place], last.place = last, worker.place
        worker.place = -1

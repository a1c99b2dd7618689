"""How long somebody waited while nothing moved, and how much of it a fault can have held up. Must not judge.

A sign of life is a transcript that grows by what the service wrote, and nothing else: not what people send again,
not what the fault driver writes. A fault is taken out of a silence only if it can have held up that message.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.chaos.held_tasks import DELIVERY, STEP, WORKFLOW, Spans, held_tasks, writing
from tests.chaos.seen import Message, Seen

EVERYBODY = ("kill_temporal", "disk_full", "read_only")
ONE_WORKER = ("kill_worker", "stop_worker", "kill_in_drain")
DOORS = {"http": "kill_gateway", "slack": "kill_slack"}  #: what only its own senders speak through
MODEL_AGAIN_S = 3.0  #: a request that failed is not asked again at once
LOCK_AGAIN_S = 5.0  #: who found a transcript locked for long tries again after that at most


@dataclass(frozen=True)
class Silence:
    """Nothing moved while this message waited for its answer, or its reply for its delivery."""

    message: Message
    began: float
    ended: float
    beyond_s: float  #: its length without what faults held up

    @property
    def raw_s(self) -> float:
        return self.ended - self.began


class Held:
    """What faults held up."""

    def __init__(self, seen: Seen) -> None:
        kinds: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for fault in seen.faults:
            kinds[fault["kind"]].append(fault)
        workers = [fault for kind in ONE_WORKER for fault in kinds[kind]]
        self.everybody: Spans = [
            *((fault["start"], fault["end"]) for kind in EVERYBODY for fault in kinds[kind]),
            *_all_away(workers, seen.run["workers"]),
        ]
        self.tasks = {name: held_tasks(seen.folder, name, seen.run["clock"], workers) for name in seen.sessions}
        self._locked = locked(kinds["stop_worker"])
        self._doors = {door: [(one["start"], one["end"]) for one in kinds[kind]] for door, kind in DOORS.items()}
        self._model: defaultdict[str, Spans] = defaultdict(list)
        for request in seen.told:
            if request["fault"] and request["first"] in seen.messages:
                end = request["until"] + (MODEL_AGAIN_S if request["fault"] != "slow" else 0.0)
                self._model[seen.messages[request["first"]].session].append((request["t"], end))

    def answer(self, message: Message, began: float, ended: float, answered: float) -> Spans:
        """Of an answer. Its sender's door can hold it up on the way in, and on the way out."""
        accepted = answered if message.accepted is None else message.accepted
        way = began <= max(accepted, message.tried) or ended >= answered
        doors = self._doors.get(message.sender, []) if way else []
        tasks = self._tasks(message, began, ended, (WORKFLOW, STEP))
        return [*self.everybody, *tasks, *self._locked[message.session], *self._model[message.session], *doors]

    def delivery(self, message: Message, began: float, ended: float) -> Spans:
        """Of a reply's delivery: also by the loss of the step that wrote the reply and was not done with it, as only
        its next attempt tells the workflow."""
        wrote = [span for one in writing(self.tasks[message.session], began) for span in one.spans(began, ended)]
        return [*self.everybody, *wrote, *self._tasks(message, began, ended, (WORKFLOW, DELIVERY))]

    def _tasks(self, message: Message, began: float, ended: float, kinds: tuple[str, ...]) -> Spans:
        held = (one for one in self.tasks[message.session] if one.task.kind in kinds)
        return [span for one in held for span in one.spans(began, ended)]


def locked(stops: list[dict[str, Any]]) -> defaultdict[str, Spans]:
    """By session: when a worker that was stopped under the transcript's lock let nobody else write."""
    found: defaultdict[str, Spans] = defaultdict(list)
    for stop in stops:
        for session in stop.get("locked", ()):
            found[session].append((stop["start"], stop.get("killed", stop["end"]) + LOCK_AGAIN_S))
    return found


def beyond_s(spans: Spans, began: float, ended: float) -> float:
    """What is left of that time without these spans."""
    return ended - began - covered(spans, began, ended)


def silences(seen: Seen, held: Held) -> Iterator[Silence]:
    """Of each message that was said: between two signs of life of its session, from its first try to its reply."""
    for message in seen.messages.values():
        if message.tried_at < 0:
            continue
        answered = message.replies[0]["t"] if message.replies else seen.run["ended"]
        signs = seen.progress[message.session]
        within = signs[bisect_right(signs, message.tried) : bisect_left(signs, answered)]
        for began, ended in pairwise((message.tried, *within, answered)):
            spans = held.answer(message, began, ended, answered)
            yield Silence(message, began, ended, beyond_s(spans, began, ended))


def late(seen: Seen, held: Held) -> Iterator[Silence]:
    """Of each reply with a place: from when its sender had it until it was seen there."""
    for message in seen.messages.values():
        if message.place and message.replies:
            posts = seen.delivered[message.place.partition(":")[2]]
            came = next((post["t"] for post in posts if post["reply"] == message.replies[0]["turn"]), 0.0)
            began = message.replies[0]["t"]
            if came:
                yield Silence(message, began, came, beyond_s(held.delivery(message, began, came), began, came))


def worst(found: list[Silence]) -> list[Silence]:
    """Of those that overlap in one session, as several people waited in it, the longest beyond faults."""
    kept: list[Silence] = []
    for one in sorted(found, key=lambda one: -one.beyond_s):
        if not any(
            other.message.session == one.message.session and other.began < one.ended and one.began < other.ended
            for other in kept
        ):
            kept.append(one)
    return sorted(kept, key=lambda one: (one.message.session, one.began))


def covered(spans: Spans, began: float, ended: float) -> float:
    """How much of the time from `began` to `ended` the spans cover together."""
    total, reached = 0.0, began
    for start, end in sorted(span for span in spans if span[0] < ended and span[1] > began):
        start, end = max(start, reached), min(end, ended)
        if end > start:
            total, reached = total + end - start, end
    return total


def _all_away(faults: list[dict[str, Any]], workers: int) -> Spans:
    """When no worker was left."""
    found: Spans = []
    away: defaultdict[int, int] = defaultdict(int)
    since = 0.0
    steps = [(fault[name], change, fault["worker"]) for fault in faults for name, change in (("start", 1), ("end", -1))]
    for when, change, worker in sorted(steps):
        before = sum(count > 0 for count in away.values())
        away[worker] += change
        after = sum(count > 0 for count in away.values())
        if before < workers == after:
            since = when
        elif after < workers == before:
            found.append((since, when))
    return found

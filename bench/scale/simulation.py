"""A day of sessions, event by event: messages, turns and their steps, slots, scaling, crashes, a deploy.

Seeded: the same scenario gives the same day to the last digit. What it keeps to, and what tests hold it to: each
message is answered exactly once or, a heartbeat of a busy session, skipped; a slot holds one step at a time.
"""

import heapq
from collections.abc import Callable
from typing import Any

from bench.scale.draws import Sources
from bench.scale.fleet import BEHIND, PEOPLE, Pool, Task, Worker
from bench.scale.outcome import BEAT, PERSON, Outcome
from bench.scale.scaler import Scaler, Seen
from bench.scale.scenario import Scenario
from bench.scale.visitors import beats, conversations

BATCH = 64  #: messages of one turn
MODEL, TOOLS = "model", "tools"


class Session:
    """One conversation: a turn at a time, the rest waits in its inbox."""

    __slots__ = ("build", "home", "inbox", "left", "moves", "turn")

    def __init__(self) -> None:
        self.inbox: list[tuple[float, str]] = []
        self.turn: Turn | None = None
        self.home: Worker | None = None
        self.build = 0
        self.left = 0  #: messages that the person will still send in this conversation
        self.moves = False  #: to the new build, when the turn is over


class Turn:
    """A batch on its way to its answer."""

    __slots__ = ("batch", "began_s", "count", "left", "rank", "session", "stage_waited_s", "waited_s", "work_s")

    def __init__(self, session: int, batch: list[tuple[float, str]], now_s: float) -> None:
        self.session, self.batch, self.began_s = session, batch, now_s
        self.rank = PEOPLE if any(kind == PERSON for _, kind in batch) else BEHIND
        self.left = self.count = 0
        self.waited_s = self.stage_waited_s = self.work_s = 0.0


class Simulation:
    """One run of one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.outcome = Outcome()
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = self._names = 0
        self._sources = Sources(scenario.seed)
        self._sessions = [Session() for _ in range(scenario.sessions)]
        self._people = conversations(scenario.people, scenario.sessions, scenario.length_s, self._sources.people)
        self._beats = beats(scenario.beats, scenario.sessions, scenario.length_s, self._sources.beats)
        self._pools: list[Pool] = []
        self._scalers: list[Scaler] = []
        self._current = 0

    def run(self) -> Outcome:
        """The whole of it; when the day is over, what runs is brought to its end."""
        self._add_pool(self.scenario.fleet.rule.least, at_once=True)
        self._next_of(self._people, self._conversation)
        self._next_of(self._beats, self._beat)
        self._after(0.0, self._sample)
        if self.scenario.deploy:
            self._after(self.scenario.deploy.at_s, self._deploy)
        while self._events:
            self.now, _, what, given = heapq.heappop(self._events)
            what(*given)
        for pool in self._pools:
            for worker in pool.workers.values():
                self.outcome.worker_s += self._end() - min(worker.made_s, self._end())
        return self.outcome

    def _after(self, delay_s: float, what: Callable[..., None], *given: Any) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + delay_s, self._count, what, given))

    def _end(self) -> float:
        return self.scenario.length_s

    def _next_of(self, source: Any, what: Callable[[int], None]) -> None:
        """One arrival ahead is enough."""
        found = next(source, None)
        if found is not None:
            self._after(found[0] - self.now, self._arrival, source, what, found[1])

    def _arrival(self, source: Any, what: Callable[[int], None], session: int) -> None:
        what(session)
        self._next_of(source, what)

    # messages

    def _conversation(self, number: int) -> None:
        session, people = self._sessions[number], self.scenario.people
        going_on = session.left > 0 or session.turn is not None
        while self._sources.talk.random() > 1.0 / people.messages:
            session.left += 1
        if going_on:
            session.left += 1  # its person goes on as soon as the last reply is there
        else:
            self._say(number)

    def _say(self, number: int) -> None:
        self._message(number, PERSON)
        session = self._sessions[number]
        if session.left and self._sources.talk.random() < self.scenario.people.impatient:
            session.left -= 1
            self._after(self.scenario.people.impatient_s, self._message, number, PERSON)

    def _beat(self, number: int) -> None:
        session = self._sessions[number]
        if session.turn is not None:
            self.outcome.counts["beats skipped"] += 1
        else:
            self._message(number, BEAT)

    def _message(self, number: int, kind: str) -> None:
        self.outcome.counts[f"{kind} messages"] += 1
        session = self._sessions[number]
        session.inbox.append((self.now, kind))
        if session.turn is None:
            self._open_turn(number)

    # turns

    def _open_turn(self, number: int) -> None:
        session, costs = self._sessions[number], self.scenario.costs
        batch, session.inbox = session.inbox[:BATCH], session.inbox[BATCH:]
        turn = session.turn = Turn(number, batch, self.now)
        delay = costs.around.draw(self._sources.turns)
        if session.build != self._current:  # found idle on the old build, it moves first
            self._move(number)
            delay += costs.around.draw(self._sources.turns)
        home = session.home
        if home is None or home.gone or home.stopping or number not in home.cached:
            delay += self._bring_in(number, session, home)
        else:
            home.remember(number, self.scenario.fleet.cached)
        self._after(delay, self._stage, turn, MODEL)

    def _bring_in(self, number: int, session: Session, home: Worker | None) -> float:
        """A worker that has not got it replays it; returns what that costs in time."""
        costs = self.scenario.costs
        self.outcome.counts["turns of sessions not cached"] += 1
        worker = self._pools[session.build].any_ready()
        if worker is None:
            return costs.cold_s
        session.home = worker
        worker.remember(number, self.scenario.fleet.cached)
        done = worker.compute(self.now, costs.cold_cpu_s) - self.now - costs.cold_cpu_s
        return costs.cold_s + done + (costs.sticky_s if home is not None and home.gone == "crashed" else 0.0)

    def _stage(self, turn: Turn, kind: str) -> None:
        turns, source = self.scenario.turns, self._sources.turns
        if kind == MODEL:
            works = [turns.model.draw(source)]
        else:
            works = [turns.tool.draw(source) for _ in range(turns.calls[int(source.random() * len(turns.calls))])]
        turn.left, turn.count = len(works), turn.count + 1
        turn.work_s += max(works)
        self.outcome.counts["steps"] += len(works)
        pool = self._pools[self._sessions[turn.session].build]
        for work in works:
            pool.offer(Task(turn, work, turn.rank), self.now)
        self._deal(pool)

    def _deal(self, pool: Pool) -> None:
        while (pair := pool.take()) is not None:
            task, worker = pair
            task.waited_s += self.now - task.offered_s
            task.began_s = self.now
            held = worker.compute(self.now, self.scenario.costs.cpu_s) - self.now - self.scenario.costs.cpu_s
            held += self.scenario.costs.held.draw(self._sources.turns) + task.work_s
            self._after(held, self._step_over, pool, task, worker, task.attempt)

    def _step_over(self, pool: Pool, task: Task, worker: Worker, attempt: int) -> None:
        if attempt != task.attempt:
            return  # its worker was lost; another attempt has taken over
        self._free(pool, task, worker)
        turn: Turn = task.turn
        turn.stage_waited_s = max(turn.stage_waited_s, task.waited_s)
        turn.left -= 1
        if turn.left == 0:
            self._stage_over(turn)
        self._deal(pool)

    def _stage_over(self, turn: Turn) -> None:
        turn.waited_s, turn.stage_waited_s = turn.waited_s + turn.stage_waited_s, 0.0
        was_model = turn.count % 2 == 1
        may_ask = was_model and turn.rank == PEOPLE  # a heartbeat finds nothing to do
        asks = may_ask and self._sources.turns.random() < self.scenario.turns.more
        if asks or not was_model:
            delay = self.scenario.costs.around.draw(self._sources.turns)
            self._after(delay, self._stage, turn, TOOLS if asks else MODEL)
        else:
            self._answered(turn)

    def _answered(self, turn: Turn) -> None:
        session, outcome = self._sessions[turn.session], self.outcome
        session.turn = None
        outcome.counts["turns"] += 1
        for came_s, kind in turn.batch:
            outcome.counts[f"{kind} messages answered"] += 1
            if kind == PERSON:
                outcome.replies.append(self.now - came_s)
        if turn.rank == PEOPLE:
            outcome.waits.append(turn.waited_s)
            outcome.added.append(self.now - turn.began_s - turn.work_s)
            outcome.ended.append(self.now)
        else:
            outcome.beat_waits.append(turn.waited_s)
        if session.moves:
            self._move(turn.session)
        if session.inbox:
            self._open_turn(turn.session)
        elif session.left:
            session.left -= 1
            self._after(self.scenario.people.gap.draw(self._sources.talk), self._say, turn.session)

    # slots and workers

    def _free(self, pool: Pool, task: Task, worker: Worker) -> None:
        self._slot_over(task, worker)
        pool.give_back(task, worker)
        if worker.stopping and not worker.running:
            self._gone(pool, worker, "stopped")

    def _slot_over(self, task: Task, worker: Worker) -> None:
        self.outcome.slot_s += self.now - task.began_s
        if self.scenario.keep_slots:
            self.outcome.slots.append((worker.name, task.slot, task.began_s, self.now))

    def _add_worker(self, pool: Pool, start_s: float) -> None:
        self._names += 1
        worker = Worker(self._names, self.scenario.fleet.slots, self.now)
        pool.add(worker)
        self._after(start_s, self._ready, pool, worker)
        crashes = self.scenario.fleet.crashes_a_day / 86_400.0
        if crashes:
            self._after(start_s + self._sources.faults.expovariate(crashes), self._crash, pool, worker)

    def _ready(self, pool: Pool, worker: Worker) -> None:
        if not (worker.gone or worker.stopping):
            pool.is_ready(worker)
            self._deal(pool)

    def _stop(self, pool: Pool, worker: Worker) -> None:
        """Told to stop: no more tasks, what runs goes on for a while."""
        pool.close(worker)
        worker.stopping = True
        if worker.running:
            self._after(self.scenario.fleet.grace_s, self._gone, pool, worker, "stopped")
        else:
            self._gone(pool, worker, "stopped")

    def _crash(self, pool: Pool, worker: Worker) -> None:
        if worker.gone or self.now > self._end():
            return
        self.outcome.counts["crashes"] += 1
        self._gone(pool, worker, "crashed")
        if not worker.stopping:
            self._add_worker(pool, self.scenario.fleet.start_s)  # Kubernetes puts another in its place

    def _gone(self, pool: Pool, worker: Worker, why: str) -> None:
        if worker.gone:
            return
        costs = self.scenario.costs
        for task in pool.forget(worker, why):
            self._slot_over(task, worker)
            task.attempt += 1
            self.outcome.counts["steps tried again"] += 1
            self._after(costs.recovery_s if why == "crashed" else costs.stopped_s, self._offer_again, pool, task)
        self.outcome.worker_s += min(self.now, self._end()) - min(worker.made_s, self._end())

    def _offer_again(self, pool: Pool, task: Task) -> None:
        pool.offer(task, self.now)
        self._deal(pool)

    # scaling, deploys, samples

    def _add_pool(self, workers: int, *, at_once: bool) -> Pool:
        pool = Pool(len(self._pools), self._sources.fleet)
        self._pools.append(pool)
        self._scalers.append(Scaler(self.scenario.fleet.rule))
        for _ in range(workers):
            self._add_worker(pool, 0.0 if at_once else self.scenario.fleet.start_s)
        self._after(self.scenario.fleet.rule.round_s, self._scale, pool)
        return pool

    def _scale(self, pool: Pool) -> None:
        if self.now > self._end() and not pool.backlog and not pool.busy:
            return
        there = [worker for worker in pool.workers.values() if not worker.stopping]
        if not there and pool.build != self._current:
            return  # an old build that is drained
        seen = Seen(len(there), pool.backlog, pool.busy, self.scenario.fleet.slots)
        target = self._scalers[pool.build].decide(self.now, seen)
        for _ in range(target - len(there)):
            self._add_worker(pool, self.scenario.fleet.start_s)
        there.sort(key=lambda worker: worker.ready)  # those that only start go first
        for worker in there[: max(0, len(there) - target)]:
            self._stop(pool, worker)
        self._after(self.scenario.fleet.rule.round_s, self._scale, pool)

    def _deploy(self) -> None:
        old = self._pools[self._current]
        workers = sum(1 for worker in old.workers.values() if not worker.stopping)
        self._add_pool(workers, at_once=False)
        self._after(self.scenario.fleet.start_s, self._become_current)

    def _become_current(self) -> None:
        assert self.scenario.deploy
        self._current = 1
        order = list(range(self.scenario.sessions))
        self._sources.fleet.shuffle(order)
        per_round = max(1, round(self.scenario.deploy.moves_per_s))
        for number, first in enumerate(range(0, len(order), per_round)):
            self._after(number * per_round / self.scenario.deploy.moves_per_s, self._tell, order[first:][:per_round])

    def _tell(self, sessions: list[int]) -> None:
        """`roll_over` is signalled to them: idle ones move at once, busy ones when their turn is over."""
        for number in sessions:
            session = self._sessions[number]
            if session.turn is None and session.build != self._current:
                self._move(number)
            session.moves = session.build != self._current

    def _move(self, number: int) -> None:
        session = self._sessions[number]
        session.build, session.moves = 1, False
        self.outcome.counts["sessions moved"] += 1
        session.home = worker = self._pools[1].any_ready()
        if worker is not None:
            worker.compute(self.now, self.scenario.costs.move_cpu_s)
            worker.remember(number, self.scenario.fleet.cached)
        if self.outcome.counts["sessions moved"] == self.scenario.sessions:
            assert self.scenario.deploy
            self.outcome.drained_s = self.now - self.scenario.deploy.at_s
            for old in list(self._pools[0].workers.values()):
                if not old.stopping:
                    self._stop(self._pools[0], old)

    def _sample(self) -> None:
        for pool in self._pools:
            there = sum(1 for worker in pool.workers.values() if not worker.stopping)
            self.outcome.samples.append((self.now, pool.build, there, pool.busy, pool.backlog))
        if self.now + self.scenario.sample_s <= self._end():
            self._after(self.scenario.sample_s, self._sample)


def simulate(scenario: Scenario) -> Outcome:
    """One run. Takes some 10 µs an event."""
    return Simulation(scenario).run()

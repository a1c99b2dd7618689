"""Waiting for one reply: the transcript shows most ends, the query `reply` knows them all.

A turn's end stands in the transcript before Temporal hears of it, so whoever waits watches the file: that costs
no event and no workflow task. What has no line there (a refusal, a slash command, an end that a missing volume
kept out) is asked of the session, less and less often. Why not an update: docs/decisions.md.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from agent_session.client_types import NoSuchMessage, Reply
from agent_session.domain.ids import workflow_id
from agent_session.domain.replies import ANSWERED, PENDING, ROLLED_OVER, UNKNOWN, ReplyRecord
from agent_session.domain.wire import from_wire
from agent_session.transcript import spool
from agent_session.transcript.growth import Growth, until_the_next_look
from agent_session.transcript.reader import reply_of, took, turn_of
from agent_session.transcript.tail import Tail
from agent_session.transcript.volume import Volume

QUERY_TIMEOUT_S = 7.0  #: a session whose worker was just killed answers after `worker.STICKY` and a replay
#: between queries; each pause is twice the last. The transcript shows nearly all ends, but none of an aside.
FIRST_ASK_S, FIRST_ASK_ASIDE_S, MOST_ASK_S, MOST_ASK_ASIDE_S = 0.25, 0.02, 20.0, 5.0
LOOKING_THREADS = 4
AGAIN_S = 0.2
NOT_YET = ReplyRecord(turn="", outcome=PENDING)
REFUSED = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED)


class _Listening:
    """Those who wait for messages of one session, and the one task that looks for them all."""

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self.waiting: defaultdict[str, list[asyncio.Future[str]]] = defaultdict(list)
        self.news = asyncio.Event()
        self.since = 0.0
        self.known: dict[str, str] = {}  #: turns of messages whose line may be far back
        self.task: asyncio.Task[None] | None = None

    def tell(self, ended: dict[str, str]) -> None:
        for scoped, turn in ended.items():
            for waiter in self.waiting.get(scoped, ()):
                if not waiter.done():
                    waiter.set_result(turn)


class Waiter:
    """One a client."""

    def __init__(self, temporal: Client, volume: Volume) -> None:
        self._temporal, self._volume = temporal, volume
        self._listening: dict[str, _Listening] = {}
        self._growth = Growth()
        self._threads = ThreadPoolExecutor(LOOKING_THREADS, thread_name_prefix="replies")

    async def reply(self, key: str, scoped: str, *, aside: bool = False) -> Reply:
        """The reply to a message by its scoped id, however long it takes; `aside`: it is answered at once, and
        not in the transcript. Errors: NoSuchMessage."""
        pause, most = (FIRST_ASK_ASIDE_S, MOST_ASK_ASIDE_S) if aside else (FIRST_ASK_S, MOST_ASK_S)
        while True:
            with self._listen(key, scoped) as ended:
                while not ended.done():
                    await asyncio.wait({ended}, timeout=pause)
                    asking = asyncio.create_task(self._ask(key, scoped))
                    try:
                        await asyncio.wait({ended, asking}, return_when=asyncio.FIRST_COMPLETED)
                        if asking.done() and (reply := asking.result()) is not None:
                            return reply
                    finally:
                        asking.cancel()
                    pause = min(pause * 2, most)
                turn = ended.result()
            with suppress(OSError):
                found = await asyncio.to_thread(self._of_turn, key, turn)
                if found is not None:
                    return found
            await asyncio.sleep(AGAIN_S)  # the volume went away, or its copy changed, in this very moment

    @contextmanager
    def _listen(self, key: str, scoped: str) -> Generator["asyncio.Future[str]"]:
        """A future of the turn that has answered the message, as the transcript says."""
        listening = self._listening.setdefault(key, _Listening(Tail(self._volume, key)))
        waiter: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        listening.waiting[scoped].append(waiter)
        listening.since = time.monotonic()
        listening.news.set()
        if listening.task is None or listening.task.done():
            listening.task = asyncio.create_task(self._look(key, listening))
        try:
            yield waiter
        finally:
            listening.waiting[scoped].remove(waiter)
            if not listening.waiting[scoped]:
                del listening.waiting[scoped]
            if not listening.waiting:
                listening.task.cancel()
                del self._listening[key]
                self._growth.forget(self._volume.path_of(key))

    async def _look(self, key: str, listening: _Listening) -> None:
        loop, folder = asyncio.get_running_loop(), self._volume.path_of(key)
        while True:
            watched = self._growth.watch(folder, listening.news)
            listening.news.clear()
            with suppress(OSError, ValueError):  # the volume is away, or a link was planted: the query answers
                waiting, known = tuple(listening.waiting), dict(listening.known)
                listening.tell(await loop.run_in_executor(self._threads, listening.tail.look, waiting, known))
            await until_the_next_look(listening.news, listening.since, watched=watched)

    async def _ask(self, key: str, scoped: str) -> Reply | None:
        """The reply as the session knows it; None while it works on it, or while the volume is away. Errors:
        NoSuchMessage."""
        record = await self._ask_workflow(key, scoped)
        try:
            return await self._reply_of(key, scoped, record)
        except OSError:
            return None

    async def _reply_of(self, key: str, scoped: str, record: ReplyRecord | None) -> Reply | None:
        if record is not None and record.outcome == PENDING:
            known = bool(record.turn) and await asyncio.to_thread(took, self._volume, key, record.turn, scoped)
            if known and key in self._listening:
                self._listening[key].known[scoped] = record.turn
                self._listening[key].news.set()
            return None
        if record is not None and record.outcome not in (ROLLED_OVER, UNKNOWN):
            return await self._with_text(key, record)
        turn = await asyncio.to_thread(turn_of, self._volume, key, scoped)
        found = await asyncio.to_thread(self._of_turn, key, turn) if turn else None
        if found is None and ((record is not None and record.outcome == UNKNOWN) or not await self._lives(key)):
            raise NoSuchMessage(f"session {key!r} has never seen this message")
        return found

    async def _ask_workflow(self, key: str, scoped: str) -> ReplyRecord | None:
        """What the session says of a message; None when there is none. No answer, as when Temporal or the
        workers restart, is `pending`: the transcript may tell meanwhile."""
        handle = self._temporal.get_workflow_handle(workflow_id(key))
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                return from_wire(ReplyRecord, await handle.query("reply", scoped))
        except (TimeoutError, WorkflowQueryFailedError):
            return NOT_YET
        except RPCError as error:
            if error.status in REFUSED:
                raise
            return None if error.status == RPCStatusCode.NOT_FOUND else NOT_YET

    async def _lives(self, key: str) -> bool:
        try:
            described = await self._temporal.get_workflow_handle(workflow_id(key)).describe()
        except RPCError as error:
            return error.status != RPCStatusCode.NOT_FOUND
        return described.status == WorkflowExecutionStatus.RUNNING

    async def _with_text(self, key: str, record: ReplyRecord) -> Reply | None:
        """None while the volume lags behind (NFS)."""
        text = record.text
        if record.spool_ref:
            text = (await asyncio.to_thread(spool.get, self._volume, key, record.spool_ref)).decode("utf-8", "replace")
        if record.text_ref:
            found = await asyncio.to_thread(reply_of, self._volume, key, record.text_ref)
            if found is None:
                return None
            text = found[0] or str(found[1].get("content", ""))
        return Reply(record.outcome, text, record.turn, record.n, record.error_id)

    def _of_turn(self, key: str, turn: str) -> Reply | None:
        found = reply_of(self._volume, key, turn)
        if found is None:
            return None
        text, ended = found
        return Reply(
            str(ended.get("outcome", ANSWERED)),
            text or str(ended.get("content", "")),
            turn,
            int(ended.get("n", 0)),
            str(ended.get("error_id", "")),
        )

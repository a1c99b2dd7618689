"""Waiting for one reply: the update `await_reply`, over roll-overs, restarts and closed sessions.

A waiter is told "rolled over, ask again" and asks again; many waiters on one session poll a query
instead, because the server allows ten updates in flight; a session that is closed, or that has
forgotten, is answered from the transcript.
"""

import asyncio
from collections import defaultdict

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode

from agent_session.client_types import NoSuchMessage, Reply
from agent_session.domain.ids import workflow_id
from agent_session.domain.replies import ANSWERED, PENDING, ROLLED_OVER, UNKNOWN, ReplyRecord
from agent_session.domain.wire import from_wire
from agent_session.transcript import spool
from agent_session.transcript.reader import reply_of, turn_of
from agent_session.transcript.volume import Volume

WAITERS_PER_SESSION = 3  #: updates in flight from one client; the server allows 10 a session
QUERY_TIMEOUT_S = 4.0
NOT_YET = ReplyRecord(turn="", outcome=PENDING)


class Waiter:
    """One a client."""

    def __init__(self, temporal: Client, volume: Volume) -> None:
        self._temporal, self._volume = temporal, volume
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(WAITERS_PER_SESSION))

    async def reply(self, key: str, scoped: str) -> Reply:
        """The reply to a message by its scoped id, however long it takes. Errors: NoSuchMessage."""
        pause = 0.05
        while True:
            record = await self._ask_workflow(key, scoped)
            if record is not None and record.outcome not in (ROLLED_OVER, UNKNOWN, PENDING):
                return await self._with_text(key, record)
            if record is None or record.outcome == UNKNOWN:
                found = await asyncio.to_thread(self._from_transcript, key, scoped)
                if found is not None:
                    return found
                if record is not None or not await self._lives(key):
                    raise NoSuchMessage(f"session {key!r} has never seen this message")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 1.0)

    async def _ask_workflow(self, key: str, scoped: str) -> ReplyRecord | None:
        """What the session says of a message; None when it does not live, or has just rolled over."""
        handle = self._temporal.get_workflow_handle(workflow_id(key))
        slots = self._slots[key]
        if slots.locked():
            return await self._poll(key, scoped)
        async with slots:
            try:
                return from_wire(ReplyRecord, await handle.execute_update("await_reply", scoped))
            except WorkflowUpdateFailedError:
                return None
            except WorkflowUpdateRPCTimeoutOrCancelledError:
                _let_cancel_through()  # the SDK makes one error of a time-out and of our own cancel
                return None
            except RPCError as error:
                _let_cancel_through()
                if error.status == RPCStatusCode.NOT_FOUND:
                    return None
                if error.status in (RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.FAILED_PRECONDITION):
                    return await self._poll(key, scoped)
                if error.status in (
                    RPCStatusCode.UNAVAILABLE,
                    RPCStatusCode.DEADLINE_EXCEEDED,
                    RPCStatusCode.CANCELLED,
                ):
                    return NOT_YET  # Temporal restarts: ask again
                raise

    async def _poll(self, key: str, scoped: str) -> ReplyRecord | None:
        """Many waiters on one session must not be many updates in flight: the rest polls a query."""
        handle = self._temporal.get_workflow_handle(workflow_id(key))
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                return from_wire(ReplyRecord, await handle.query("reply", scoped))
        except (TimeoutError, WorkflowQueryFailedError, RPCError):
            return NOT_YET

    async def _lives(self, key: str) -> bool:
        try:
            described = await self._temporal.get_workflow_handle(workflow_id(key)).describe()
        except RPCError as error:
            return error.status != RPCStatusCode.NOT_FOUND
        return described.status == WorkflowExecutionStatus.RUNNING

    async def _with_text(self, key: str, record: ReplyRecord) -> Reply:
        text = record.text
        if record.spool_ref:
            text = (await asyncio.to_thread(spool.get, self._volume, key, record.spool_ref)).decode("utf-8", "replace")
        if record.text_ref:
            for _ in range(100):  # the volume may lag (NFS)
                found = await asyncio.to_thread(reply_of, self._volume, key, record.text_ref)
                if found is not None:
                    text = found[0] or str(found[1].get("content", ""))
                    break
                await asyncio.sleep(0.1)
        return Reply(record.outcome, text, record.turn, record.n, record.error_id)

    def _from_transcript(self, key: str, scoped: str) -> Reply | None:
        turn = turn_of(self._volume, key, scoped)
        found = reply_of(self._volume, key, turn) if turn else None
        if found is None or turn is None:
            return None
        text, ended = found
        return Reply(
            str(ended.get("outcome", ANSWERED)),
            text or str(ended.get("content", "")),
            turn,
            int(ended.get("n", 0)),
            str(ended.get("error_id", "")),
        )


def _let_cancel_through() -> None:
    """Errors: CancelledError, when this task is being cancelled (a time-out around it, Ctrl-C)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError

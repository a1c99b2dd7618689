"""`SessionClient`: the one way into a session, for our own channels and for your program.

    async with await SessionClient.connect() as client:
        reply = await client.ask("main", "hello")
        print(reply.text)

Knows workflow names, never their code; spools what does not fit a signal; reads long replies and
transcripts from the volume.
"""

import asyncio
import getpass
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from temporalio.client import (
    Client,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
    WorkflowQueryRejectedError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from agent_session.client_types import (
    NoSuchMessage,
    NoSuchSession,
    Receipt,
    Reply,
    ReplyPending,
    SessionBusy,
    SessionError,
    SessionIsLive,
    SessionRow,
    row_of,
)
from agent_session.connection import connect
from agent_session.domain.authority import APPROVE_GRANT, SHELL_GRANT, sign_decision, sign_message
from agent_session.domain.commands import command_of
from agent_session.domain.ids import message_id, session_key, workflow_id
from agent_session.domain.inbox import CarriedInbox
from agent_session.domain.limits import SIGNAL_BYTES
from agent_session.domain.messages import COLLECT, MODES, PERSON, Attachment, InboundMessage
from agent_session.domain.state import SessionState
from agent_session.domain.status import RUNNING, Status
from agent_session.domain.turns import REASON_BYTES, Decision
from agent_session.domain.wire import clipped, from_wire, to_wire
from agent_session.live.bus import live_bus
from agent_session.live.events import LiveEvent
from agent_session.paths import write_whole
from agent_session.settings import Settings, load_settings
from agent_session.transcript import spool
from agent_session.transcript.lines import Line
from agent_session.transcript.reader import BadLine, read_all
from agent_session.transcript.volume import WORKSPACE_FILE, Volume
from agent_session.transcript.waiting_calls import waiting_calls
from agent_session.waiting import QUERY_TIMEOUT_S, Waiter

ASIDES_KEPT = 100
TASK_TIMEOUT = timedelta(seconds=5)  #: how soon a workflow task of a lost worker is given to another
SESSION_WORKFLOW, TURN_WORKFLOW = "AgentSessionWorkflow", "AgentTurnWorkflow"
SESSIONS_QUERY = f"(WorkflowType = '{SESSION_WORKFLOW}' OR WorkflowType = '{TURN_WORKFLOW}')"


class SessionClient:
    """Sends, waits, asks, lists, cancels. Safe to share between tasks."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        *,
        channel: str = "api",
        principal: str = "",
        waiter: Waiter | None = None,  #: one that several clients of a process share
    ) -> None:
        self.temporal = client
        self.settings = settings
        self.volume = Volume(settings.data_dir)
        self.channel = channel
        self.principal = principal or f"local:{_user()}"
        self.grants: tuple[str, ...] = (APPROVE_GRANT, SHELL_GRANT)
        self._waiter = waiter or Waiter(client, self.volume)
        self._asides: dict[str, None] = {}  #: slash commands that were sent: their answer comes at once

    @classmethod
    async def connect(
        cls, settings: Settings | None = None, *, address: str = "", channel: str = "api", principal: str = ""
    ) -> Self:
        """Connect to the configured Temporal, or to the `up` of the data directory. Errors: BadSettings,
        Unreachable."""
        settings = settings or load_settings()
        return cls(await connect(settings, address), settings, channel=channel, principal=principal)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def send(
        self,
        key: str,
        text: str,
        *,
        id: str = "",
        mode: str = COLLECT,
        kind: str = PERSON,
        sender: str = "",
        reply_address: str = "",
        attachments: Sequence[str | Path | Attachment] = (),
        start: bool = True,
        timeout_s: float = 60,
    ) -> Receipt:
        """Hand a message to the session, starting it when it does not live yet (`start`). The same `id` again, at
        any time, is the same message. Limits: text and each attachment 64 MiB.

        Errors: BadSessionKey, BadMessageId, ValueError (mode, sizes), SessionBusy after `timeout_s`,
        VolumeUnavailable when the text must be spooled and cannot; without `start` NoSuchSession.
        """
        key = session_key(key)
        message = await self._message(key, text, id or uuid.uuid4().hex, mode, kind, sender, reply_address, attachments)
        await self._signal(key, message, timeout_s, start=start)
        if command_of(message):
            self._asides[message.scoped] = None
            while len(self._asides) > ASIDES_KEPT:
                del self._asides[next(iter(self._asides))]
        return Receipt(key, message.id, message.scoped)

    async def await_reply(self, key: str, id: str, *, timeout_s: float = 600) -> Reply:
        """Wait for the reply to a message that this client's channel and principal sent.

        Errors: NoSuchMessage; ReplyPending after `timeout_s` (ask again, nothing is lost).
        """
        scoped = InboundMessage(id=id, channel=self.channel, principal=self.principal).scoped
        return replace(await self.await_reply_to(key, scoped, timeout_s=timeout_s), message_id=id)

    async def await_reply_to(self, key: str, scoped: str, *, timeout_s: float = 600) -> Reply:
        """As `await_reply`, for a message of anybody, by the id that it has in the transcript."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._waiter.reply(session_key(key), scoped, aside=scoped in self._asides)
        except TimeoutError:
            raise ReplyPending(
                f"no reply within {timeout_s:.0f} s; it is still being worked on, ask again with the same id"
            ) from None

    async def ask(self, key: str, text: str, *, timeout_s: float = 600, **how: Any) -> Reply:
        """`send` and `await_reply` in one."""
        receipt = await self.send(key, text, **how)
        return await self.await_reply(key, receipt.id, timeout_s=timeout_s)

    async def run_once(self, text: str, key: str = "", *, timeout_s: float = 600) -> Reply:
        """The turn-based form: one workflow for this message. With a key, the transcript is kept from run
        to run. Errors: SessionIsLive."""
        receipt = await self.start_once(text, key)
        return await self.await_reply(receipt.session, receipt.id, timeout_s=timeout_s)

    async def start_once(
        self,
        text: str,
        key: str = "",
        *,
        id: str = "",
        kind: str = PERSON,
        sender: str = "",
        reply_address: str = "",
        attachments: Sequence[str | Path | Attachment] = (),
    ) -> Receipt:
        """As `run_once`, without waiting. The same `id` again is the same message. Errors: SessionIsLive."""
        key = session_key(key or f"run/{uuid.uuid4().hex}")
        id = id or uuid.uuid4().hex
        message = await self._message(key, text, id, COLLECT, kind, sender, reply_address, attachments)
        state = SessionState(key=key, inbox=CarriedInbox(head=(message,)))
        try:
            await self.temporal.start_workflow(
                TURN_WORKFLOW,
                to_wire(state),
                id=workflow_id(key),
                task_queue=self.settings.task_queue,
                task_timeout=TASK_TIMEOUT,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            )
        except WorkflowAlreadyStartedError:
            raise SessionIsLive(f"session {key!r} is live: use 'agent-session send {key} …' to talk to it") from None
        return Receipt(key, message.id, message.scoped)

    async def status(self, key: str) -> Status:
        """What the session is doing. When no worker answers, what Temporal itself knows
        (`answered_by="server"`). Errors: NoSuchSession."""
        key = session_key(key)
        handle = self.temporal.get_workflow_handle(workflow_id(key))
        try:
            described = await handle.describe()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise NoSuchSession(f"there is no session {key!r}; agent-session sessions lists them") from None
            raise
        live = described.status == WorkflowExecutionStatus.RUNNING
        try:
            async with asyncio.timeout(QUERY_TIMEOUT_S):
                status = from_wire(Status, await handle.query("status"))
        except (TimeoutError, RPCError, WorkflowQueryFailedError, WorkflowQueryRejectedError):
            pending = len(described.raw_description.pending_activities)
            status = Status(key=key, state=RUNNING if pending else "unknown", answered_by="server")
        return status if live else replace(status, state="closed")

    async def cancel(self, key: str, turn: str = "") -> str:
        """Cancel the running turn, or only the one named; returns its id, empty when none runs."""
        turn = turn or (await self.status(key)).turn
        if turn:
            await self._handle_signal(key, "cancel_turn", turn)
        return turn

    async def close(self, key: str) -> None:
        """End the session once nothing is open. Its transcript stays; a new message starts it again."""
        await self._handle_signal(key, "close", None)

    async def roll_over(self, key: str) -> None:
        """Ask the session to continue as new at its next step boundary."""
        await self._handle_signal(key, "roll_over", None)

    async def resolve(
        self, key: str, call: str, digest: str, decision: str, reason: str = "", *, pattern: str = ""
    ) -> None:
        """Decide on a tool call that asks: `allow` or `deny`, bound to what would run (`digest` of
        `waiting_calls`). With `pattern`, also allow calls like it for the rest of the session; one that does
        not cover this very call allows this call alone."""
        key = session_key(key)
        secret = self.volume.signing_key(self.settings.mac_key_file)
        given = Decision(
            decision=decision,
            principal=self.principal,
            grants=self.grants,
            reason=clipped(reason, REASON_BYTES),
            pattern=pattern,
        )
        signed = replace(given, mac=sign_decision(secret, key, call, digest, given))
        await self._handle_signal(key, "resolve_approval", {"call": call, **to_wire(signed)})

    async def sessions(self, *, all: bool = False, limit: int = 1000) -> list[SessionRow]:
        """Sessions that live (or all that Temporal remembers), those that need a person first, then the
        newest first."""
        query = SESSIONS_QUERY + ("" if all else " AND ExecutionStatus = 'Running'")
        rows: dict[str, SessionRow] = {}
        async for found in self.temporal.list_workflows(query, limit=limit):
            row = row_of(found)
            if row.key not in rows or row.running:
                rows[row.key] = row
        return sorted(rows.values(), key=lambda row: (row.needs == "", not row.running, -row.started_s))

    def history(self, key: str) -> Iterator[Line | BadLine]:
        """The transcript's lines, oldest first. Errors: NoSuchSession, VolumeUnavailable."""
        try:
            for _, _, line in read_all(self.volume, session_key(key)):
                yield line
        except FileNotFoundError:
            raise NoSuchSession(f"session {key!r} has no transcript on {self.volume.root}") from None

    def events(
        self, key: str, ready: asyncio.Event | None = None, *, replay: bool = False
    ) -> AsyncGenerator[LiveEvent]:
        """Live progress of a session from now on: tokens, tools, retries; with `replay`, what the running turn
        has shown so far comes first. Never durable; it needs the `up` of this data directory, or `live.url`. `ready`
        is set once nothing more can be missed. Errors: OSError, BadSettings."""
        return live_bus(self.settings).watch(session_key(key), ready, replay=replay)

    def use_workspace(self, key: str, path: Path) -> None:
        """Let the session's tools work in this folder from now on. Errors: ValueError for one that holds the
        data directory, or lies in it: tools would reach keys and other sessions."""
        mine, data = path.resolve(), self.settings.data_dir.resolve()
        if mine.is_relative_to(data) or data.is_relative_to(mine):
            raise ValueError(f"{path} cannot be a workspace: it holds the data directory {data}, or lies in it")
        with self.volume.session_folder(session_key(key), create=True) as handle:
            write_whole(handle, WORKSPACE_FILE, str(path.resolve()).encode())

    def waiting_calls(self, key: str, status: Status) -> list[dict[str, str]]:
        """The calls of `status` that wait for a person: call, tool, args, digest, why it asks, and the pattern
        that could be allowed for the session. Errors: VolumeUnavailable."""
        return waiting_calls(self.volume, session_key(key), status)

    async def _message(
        self,
        key: str,
        text: str,
        id: str,
        mode: str,
        kind: str,
        sender: str,
        reply_address: str,
        attachments: Sequence[str | Path | Attachment],
    ) -> InboundMessage:
        if mode not in MODES:
            raise ValueError(f"mode {mode!r} is none of {', '.join(MODES)}")
        if not text.strip() and not attachments:
            raise ValueError("the message is empty: give it a text")
        text = text.encode("utf-8", "replace").decode()
        stored = [one if isinstance(one, Attachment) else await self._attach_file(key, one) for one in attachments]
        message = InboundMessage(
            id=message_id(id),
            channel=self.channel,
            text=text,
            principal=self.principal,
            grants=self.grants,
            sender=sender,
            reply_address=reply_address,
            kind=kind,
            mode=mode,
            attachments=tuple(one.wire for one in stored),
        )
        secret = self.volume.signing_key(self.settings.mac_key_file)
        signed = sign_message(secret, key, message)
        if signed.size_bytes > SIGNAL_BYTES:
            ref = await asyncio.to_thread(spool.put, self.volume, key, text.encode())
            signed = sign_message(secret, key, replace(message, text="", text_ref=ref))
        if signed.size_bytes > SIGNAL_BYTES:
            raise ValueError("the message has too many attachments, or their names are too long: send fewer")
        return signed

    async def attach(self, key: str, data: bytes, name: str, kind: str = "") -> Attachment:
        """Put a file into the session's spool, to be sent with a message. Limit: 64 MiB. Errors: ValueError,
        VolumeUnavailable."""
        return await asyncio.to_thread(spool.attach, self.volume, session_key(key), data, name, kind)

    async def _attach_file(self, key: str, path: str | Path) -> Attachment:
        return await self.attach(key, await asyncio.to_thread(Path(path).read_bytes), Path(path).name)

    async def _signal(self, key: str, message: InboundMessage, timeout_s: float, *, start: bool) -> None:
        """Signal-with-start: atomic, no check-then-start race."""
        deadline, pause = time.monotonic() + timeout_s, 0.1
        while True:
            try:
                if not start:
                    await self._handle_signal(key, "receive", to_wire(message))
                    return
                await self.temporal.start_workflow(
                    SESSION_WORKFLOW,
                    {"key": key},
                    id=workflow_id(key),
                    task_queue=self.settings.task_queue,
                    task_timeout=TASK_TIMEOUT,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                    start_signal="receive",
                    start_signal_args=[to_wire(message)],
                )
                return
            except RPCError as error:
                if not _is_busy(error):
                    raise
                if time.monotonic() > deadline:
                    raise SessionBusy(
                        f"session {key!r} takes no more messages right now; send again with the id {message.id!r}"
                    ) from None
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)

    async def _handle_signal(self, key: str, name: str, argument: Any) -> None:
        key = session_key(key)
        try:
            await self.temporal.get_workflow_handle(workflow_id(key)).signal(name, argument)
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                raise NoSuchSession(
                    f"no session {key!r} is live; agent-session sessions lists those that are"
                ) from None
            raise


__all__ = [
    "NoSuchMessage", "NoSuchSession", "Receipt", "Reply", "ReplyPending", "SessionBusy", "SessionClient",
    "SessionError", "SessionIsLive", "SessionRow",
]  # fmt: skip


def _is_busy(error: RPCError) -> bool:
    limit = error.status == RPCStatusCode.INVALID_ARGUMENT and "limit" in str(error).lower()
    return limit or error.status == RPCStatusCode.RESOURCE_EXHAUSTED


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"

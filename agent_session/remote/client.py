"""`RemoteSessions`: sessions behind a gateway, by its HTTP API (docs/gateway.md).

Asks for a reply by the message's id, which costs the session nothing. Reads no volume and knows no Temporal.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import quote, urlencode

import orjson

from agent_session.client_types import (
    NoSuchSession,
    Receipt,
    Reply,
    ReplyPending,
    SessionRow,
)
from agent_session.domain.ids import message_id, session_key
from agent_session.domain.limits import SPOOL_BYTES
from agent_session.domain.messages import COLLECT, MODES, Attachment
from agent_session.domain.status import WAITING_APPROVAL, Status
from agent_session.domain.wire import from_wire
from agent_session.live.events import DROPPED, LiveEvent
from agent_session.live.events import decode as decode_event
from agent_session.remote.errors import GatewayBusy, GatewayUnreachable, pause_asked
from agent_session.remote.http import FIRST_CONTACT_S, PAUSE_S, GatewayHttp
from agent_session.remote.target import Target, target_of
from agent_session.settings import Settings
from agent_session.transcript.lines import Line
from agent_session.transcript.lines import decode as decode_line
from agent_session.transcript.reader import BadLine

CHANNEL = "http"
WAIT_SLICE_S = 50.0  #: proxies commonly give up after 60 s
ANSWER_S = 15.0  #: beyond the slice
FIRST_PAGE, PAGE = 20, 200  #: lines
ROWS = 200


class RemoteSessions:
    """Sessions of one gateway; `async with` opens and closes the connection. Safe to share between tasks."""

    def __init__(self, settings: Settings, target: Target) -> None:
        self.settings = settings
        self.channel = CHANNEL
        self.principal = ""  #: the gateway's name for us, by our token
        self._http = GatewayHttp(target)
        self._waiting: dict[str, list[dict[str, str]]] = {}

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Of `gateway.url`. Errors: BadSettings."""
        return cls(settings, target_of(settings))

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.__aexit__()

    async def check(self) -> None:
        """Whether the gateway is there and knows the token. Errors: those of any request."""
        await self._get("/v1/sessions", limit=1)

    async def send(
        self,
        key: str,
        text: str,
        *,
        id: str = "",
        mode: str = COLLECT,
        sender: str = "",
        reply_address: str = "",
        attachments: Sequence[str | Path | Attachment] = (),
        timeout_s: float = 60,
    ) -> Receipt:
        """Hand a message to the session. The same `id` again is the same message, so it is sent again when the
        gateway goes away meanwhile. Limits: text and each attachment 64 MiB. Errors: GatewayUnreachable and SessionBusy
        after `timeout_s`, BadSessionKey, BadMessageId, ValueError."""
        key, id = session_key(key), message_id(id or uuid.uuid4().hex)
        if reply_address:
            raise ValueError("a reply cannot be delivered elsewhere through a gateway: leave --reply-to out")
        if mode not in MODES:
            raise ValueError(f"mode {mode!r} is none of {', '.join(MODES)}")
        if not text.strip() and not attachments:
            raise ValueError("the message is empty: give it a text")
        body: dict[str, Any] = {"text": text.encode("utf-8", "replace").decode(), "mode": mode}
        if attachments:
            body["attachments"] = [await self._stored(key, one, timeout_s) for one in attachments]
        if sender:
            body["sender"] = sender
        path, headers = _path(key, "messages"), {"Idempotency-Key": id}
        await self._http.persist(lambda: self._http.call("POST", path, json=body, headers=headers), timeout_s)
        return Receipt(key, id, "")

    async def await_reply(self, key: str, id: str, *, timeout_s: float = 600) -> Reply:
        """Wait for the reply to a message that was sent with this token. Errors: NoSuchMessage; ReplyPending after
        `timeout_s`; GatewayUnreachable when the gateway was away at that time."""
        path = f"{_path(key, 'messages')}/{quote(message_id(id), safe='')}"
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            wait_s = min(left, WAIT_SLICE_S)
            asked = f"{path}?wait={wait_s:.3f}"
            status, answer = await self._http.persist(
                lambda: self._http.call("GET", asked, timeout_s=wait_s + ANSWER_S),  # noqa: B023
                left,
            )
            if status == 200:
                return Reply(
                    str(answer.get("status", "")),
                    str(answer.get("text", "")),
                    str(answer.get("turn", "")),
                    int(answer.get("n", 0)),
                    str(answer.get("error_id", "")),
                    id,
                )
        raise ReplyPending(
            f"no reply to {id!r} within {timeout_s:.0f} s; it is still being worked on, ask again with the same id"
        )

    async def ask(self, key: str, text: str, *, timeout_s: float = 600, **how: Any) -> Reply:
        """`send` and `await_reply` in one."""
        receipt = await self.send(key, text, **how)
        return await self.await_reply(key, receipt.id, timeout_s=timeout_s)

    async def status(self, key: str) -> Status:
        """What the session is doing; where a call waits for a person, that is read, too. Errors: NoSuchSession."""
        key = session_key(key)
        status = from_wire(Status, await self._get(_path(key)))
        self._waiting.pop(key, None)
        if status.state == WAITING_APPROVAL:
            found = (await self._get(_path(key, "approvals"))).get("approvals", [])
            self._waiting[key] = [{name: str(value) for name, value in one.items()} for one in found]
        return status

    def waiting_calls(self, key: str, status: Status) -> list[dict[str, str]]:
        """The calls that waited when `status` was asked for."""
        return self._waiting.get(session_key(key), []) if status.state == WAITING_APPROVAL else []

    async def sessions(self, *, all: bool = False, limit: int = 1000) -> list[SessionRow]:
        """Those that the token reaches; in the order of `SessionClient.sessions`."""
        rows: list[SessionRow] = []
        query: dict[str, Any] = {"all": "true"} if all else {}
        while len(rows) < limit:
            page = await self._get("/v1/sessions", limit=min(ROWS, limit - len(rows)), **query)
            rows += [from_wire(SessionRow, one) for one in page.get("sessions", [])]
            if not page.get("next"):
                break
            query["cursor"] = page["next"]
        return sorted(rows, key=lambda row: (row.needs == "", not row.running, -row.started_s))

    async def cancel(self, key: str, turn: str = "") -> str:
        """Cancel the running turn, or only the one named; returns its id, empty when none runs."""
        answer = await self._post(_path(key, "cancel"), {"turn": turn} if turn else {})
        return str(answer.get("turn") or "")

    async def close(self, key: str) -> None:
        """End the session once nothing is open. Errors: NoSuchSession."""
        await self._post(_path(key, "close"), {})

    async def resolve(
        self, key: str, call: str, digest: str, decision: str, reason: str = "", *, pattern: str = ""
    ) -> None:
        """Decide on a call that asks. Errors: NotAllowed for a token without the scope `approve`."""
        body = {"decision": decision, "digest": digest, "reason": reason, "pattern": pattern}
        given = {name: value for name, value in body.items() if value}
        await self._post(_path(key, f"approvals/{quote(call, safe='')}"), given)

    def use_workspace(self, key: str, path: Path) -> None:
        """Errors: ValueError, always."""
        raise ValueError(f"a gateway's session cannot work in {path}, a folder of this machine: leave --workspace out")

    async def lines(self, key: str) -> AsyncGenerator[tuple[bytes, Line | BadLine]]:
        """Errors: NoSuchSession."""
        after = 0
        while True:
            page = await self._get(_path(key, "messages"), after=after, limit=PAGE)
            for line in _lines(page):
                yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE), line
                after = int(line["seq"])
            if not page.get("more"):
                return

    async def backwards(self, key: str) -> AsyncGenerator[Line]:
        """The last lines in a small page, what is before them in larger ones."""
        before: dict[str, int] = {}
        while True:
            try:
                page = await self._get(_path(key, "messages"), limit=PAGE if before else FIRST_PAGE, **before)
            except NoSuchSession:
                return
            found = _lines(page)
            for line in reversed(found):
                yield line
            if not found or not page.get("more"):
                return
            before = {"before": int(found[0]["seq"])}

    async def follow(self, key: str) -> AsyncGenerator[tuple[bytes, Line | BadLine]]:
        """Goes on by itself behind the last line when the gateway goes away. Errors: GatewayUnreachable after 5 s for
        one that has never answered; NotLetIn, NotAllowed."""
        after, pause, met, began = 0, PAUSE_S[0], asyncio.Event(), time.monotonic()
        while True:
            try:
                async with aclosing(self._http.stream(_path(key, "events"), met, after=str(after))) as stream:
                    async for event in stream:
                        pause = PAUSE_S[0]
                        line = decode_line(event.data) if event.kind == "line" else None
                        if line is not None and int(line["seq"]) > after:
                            after = int(line["seq"])
                            yield event.data + b"\n", line
            except (GatewayUnreachable, GatewayBusy) as error:
                if not met.is_set() and time.monotonic() - began > FIRST_CONTACT_S:
                    raise
                pause = max(pause, pause_asked(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_S[1])

    async def events(
        self, key: str, ready: asyncio.Event | None = None, *, replay: bool = False
    ) -> AsyncGenerator[LiveEvent]:
        """Live progress; what the running turn has shown so far always comes first. Ends when the gateway ends it.
        Errors: GatewayUnreachable, an OSError."""
        async with aclosing(self._http.stream(_path(key, "events"), ready)) as stream:
            async for event in stream:
                if event.kind == "dropped":
                    yield LiveEvent(session=session_key(key), kind=DROPPED)
                found = decode_event(event.data) if event.kind == "live" else None
                if found is not None:
                    yield found

    async def _stored(self, key: str, one: str | Path | Attachment, timeout_s: float) -> str:
        """A file in the session's spool. Errors: OSError, ValueError."""
        if isinstance(one, Attachment):
            return one.wire
        path = Path(one)
        data = await asyncio.to_thread(path.read_bytes)
        if len(data) > SPOOL_BYTES:
            raise ValueError(f"{path} is larger than {SPOOL_BYTES >> 20} MiB: send less of it")
        where = f"{_path(key, 'attachments')}?{urlencode({'name': path.name})}"
        headers = {"Content-Type": "application/octet-stream"}
        _, answer = await self._http.persist(
            lambda: self._http.call("POST", where, data=data, headers=headers, timeout_s=timeout_s), timeout_s
        )
        return str(answer["attachment"])

    async def _get(self, path: str, **query: Any) -> dict[str, Any]:
        return (await self._http.call("GET", f"{path}?{urlencode(query)}" if query else path))[1]

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return (await self._http.call("POST", path, json=body))[1]


def _path(key: str, below: str = "") -> str:
    whole = f"/v1/sessions/{quote(session_key(key), safe='')}"
    return f"{whole}/{below}" if below else whole


def _lines(page: dict[str, Any]) -> list[Line]:
    return [line for line in cast(list[Line], page.get("lines", [])) if isinstance(line.get("seq"), int)]

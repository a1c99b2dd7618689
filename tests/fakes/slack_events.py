"""How the fake tells the app what happened: envelopes over Socket Mode, or signed posts to a URL.

Each event goes to one of the connections and again, with `retry_attempt`, until it is acknowledged or
has been tried often enough. Commands and buttons are sent once, as Slack does.
"""

import asyncio
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from tests.fakes.slack_state import APP, TEAM, Json

EVENTS, COMMANDS, INTERACTIVE = "events_api", "slash_commands", "interactive"


@dataclass
class Envelope:
    """One thing that the app is told, however often it is sent."""

    kind: str
    payload: Json
    sent: int = 0
    answer: Json | None = None  #: what came with the acknowledgement
    given_up: bool = False
    acked: asyncio.Event = field(default_factory=asyncio.Event)
    sent_to: list[int] = field(default_factory=list)  #: numbers of the connections

    def acknowledge(self, answer: Json | None) -> None:
        self.answer = self.answer or answer
        self.acked.set()


class Connection:
    """One WebSocket of the app."""

    def __init__(self, number: int, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.number, self._socket, self._request = number, socket, request
        self.alive = True  #: as far as Slack knows
        self.closed = asyncio.Event()

    async def send(self, body: Json) -> bool:
        """False: there was nobody to send it to any more."""
        try:
            await self._socket.send_json(body)
        except (ConnectionError, RuntimeError):
            self.alive = False
        return self.alive

    def drop(self) -> None:
        """Without a word, as a cut cable."""
        self.alive = False
        if self._request.transport is not None:
            self._request.transport.abort()

    async def disconnect(self, reason: str = "refresh_requested") -> None:
        """Slack asks the app to come again, and closes."""
        if await self.send({"type": "disconnect", "reason": reason, "debug_info": {"host": "fake"}}):
            self.alive = False
            await asyncio.sleep(0.05)
            await self._socket.close()


class Events:
    """`/link`, and the posts of the Events API when `url` is set."""

    def __init__(self, signing_secret: str) -> None:
        self.signing_secret = signing_secret
        self.url = ""  #: post events there instead of over sockets
        self.redeliver_after_s = 3.0
        self.retries = 3
        self.drop_after_sending = 0  #: cut the connection right after that many of the next envelopes
        self.envelopes: list[Envelope] = []
        self.connections: list[Connection] = []
        self.opened = 0  #: connections there have ever been
        self._tickets: set[str] = set()
        self._waiting: dict[str, Envelope] = {}
        self._connected = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = 0

    def ticket(self) -> str:
        made = uuid.uuid4().hex
        self._tickets.add(made)
        return made

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/link", self.link)]

    async def link(self, request: web.Request) -> web.StreamResponse:
        """One connection's life; a ticket is good for one."""
        if request.query.get("ticket") not in self._tickets:
            return web.Response(status=401)
        self._tickets.discard(request.query["ticket"])
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.opened += 1
        connection = Connection(self.opened, socket, request)
        hello = {"type": "hello", "num_connections": len(self.connections) + 1, "connection_info": {"app_id": APP}}
        await connection.send({**hello, "debug_info": {"host": "fake", "approximate_connection_time": 3600}})
        async with self._connected:
            self.connections.append(connection)
            self._connected.notify_all()
        try:
            async for message in socket:
                if message.type == aiohttp.WSMsgType.TEXT:
                    self._receive(json.loads(message.data))
        finally:
            self.connections.remove(connection)
            connection.closed.set()
        return socket

    def _receive(self, body: Json) -> None:
        envelope = self._waiting.pop(body.get("envelope_id", ""), None)
        if envelope is not None:
            envelope.acknowledge(body.get("payload"))

    def emit(self, event: Json) -> Envelope:
        """An event of the Events API; `event_id` is the same however often it is sent."""
        payload: Json = {
            "token": "verification", "team_id": TEAM, "api_app_id": APP, "event": event, "type": "event_callback",
            "event_id": f"Ev{uuid.uuid4().hex[:10]}", "event_time": int(time.time()),
            "authorizations": [{"team_id": TEAM, "is_bot": True}],
        }  # fmt: skip
        return self.tell(EVENTS, payload)

    def tell(self, kind: str, payload: Json) -> Envelope:
        envelope = Envelope(kind, payload)
        self.envelopes.append(envelope)
        task = asyncio.create_task(self._deliver(envelope))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return envelope

    async def stop(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self.connections):
            connection.drop()

    async def _deliver(self, envelope: Envelope) -> None:
        send: Callable[..., Any] = self._post if self.url else self._send
        reason = ""
        for attempt in range(1 + (self.retries if envelope.kind == EVENTS else 0)):
            reason = await send(envelope, attempt, reason)
            if envelope.acked.is_set():
                return
        envelope.given_up = True

    # --- Socket Mode ---

    async def _send(self, envelope: Envelope, attempt: int, reason: str) -> str:
        """Send once; returns why it was not acknowledged."""
        name = uuid.uuid4().hex
        self._waiting[name] = envelope
        takes_answer = envelope.kind != EVENTS
        body = {"envelope_id": name, "type": envelope.kind, "payload": envelope.payload}
        body["accepts_response_payload"] = takes_answer
        if envelope.kind == EVENTS:
            body |= {"retry_attempt": attempt, "retry_reason": reason}
        while not await (connection := await self._a_connection()).send(body):
            pass  # to the next one: it was never sent
        envelope.sent_to.append(connection.number)
        envelope.sent += 1
        if self.drop_after_sending:
            self.drop_after_sending -= 1
            connection.drop()
        waits = [asyncio.create_task(envelope.acked.wait()), asyncio.create_task(connection.closed.wait())]
        try:
            async with asyncio.timeout(self.redeliver_after_s):
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            return "timeout"
        finally:
            for one in waits:
                one.cancel()
        return "connection_failed"

    async def _a_connection(self) -> Connection:
        async with self._connected:
            await self._connected.wait_for(lambda: any(one.alive for one in self.connections))
            self._turn += 1
            alive = [one for one in self.connections if one.alive]
            return alive[self._turn % len(alive)]

    # --- HTTP ---

    async def _post(self, envelope: Envelope, attempt: int, reason: str) -> str:
        if envelope.kind == EVENTS:
            body, kind = json.dumps(envelope.payload).encode(), "application/json"
        else:
            form = envelope.payload if envelope.kind == COMMANDS else {"payload": json.dumps(envelope.payload)}
            body, kind = urlencode(form).encode(), "application/x-www-form-urlencoded"
        headers = {"Content-Type": kind, **self.signed(body)}
        if attempt:
            headers |= {"X-Slack-Retry-Num": str(attempt), "X-Slack-Retry-Reason": reason}
        envelope.sent += 1
        with suppress(aiohttp.ClientError, TimeoutError):
            async with aiohttp.ClientSession() as session:
                async with session.post(self.url, data=body, headers=headers) as answer:
                    text = await answer.text()
                    if answer.status == 200:
                        envelope.acknowledge({"text": text} if text else None)
                        return ""
            await asyncio.sleep(self.redeliver_after_s)
            return "http_error"
        await asyncio.sleep(self.redeliver_after_s)
        return "connection_failed"

    def signed(self, body: bytes, timestamp: int | None = None) -> dict[str, str]:
        """The headers that prove that a body is Slack's."""
        at = str(timestamp or int(time.time()))
        digest = hmac.new(self.signing_secret.encode(), f"v0:{at}:".encode() + body, hashlib.sha256).hexdigest()
        return {"X-Slack-Request-Timestamp": at, "X-Slack-Signature": f"v0={digest}"}

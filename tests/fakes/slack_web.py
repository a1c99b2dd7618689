"""The HTTP front of the fake: tokens, bodies, faults on request, and a log of every call.

A fault that is asked for with `after` happens when the method has had its effect: a crash of the
connection between the post and its answer.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from tests.fakes.slack_methods import Methods
from tests.fakes.slack_state import TEAM, Json, SlackError, Workspace

APP_TOKEN_METHODS = ("apps.connections.open",)
MANIFEST: Json = yaml.safe_load((Path(__file__).parents[2] / "docs/channels/slack-manifest.yaml").read_text())
HISTORY, INFO = "{}:history", "{}:read"  #: a scope of its own for each kind of conversation
#: what a bot token needs for each method that is called, by Slack's reference
SCOPES: dict[str, str] = {
    "agents.sessions.setStatus": "chat:write", "assistant.threads.setStatus": "assistant:write", "auth.test": "",
    "chat.appendStream": "chat:write", "chat.delete": "chat:write", "chat.postEphemeral": "chat:write",
    "chat.postMessage": "chat:write", "chat.startStream": "chat:write", "chat.stopStream": "chat:write",
    "chat.update": "chat:write", "conversations.history": HISTORY, "conversations.info": INFO,
    "conversations.open": "im:write", "conversations.replies": HISTORY, "files.completeUploadExternal": "files:write",
    "files.getUploadURLExternal": "files:write", "files.info": "files:read", "users.info": "users:read",
}  # fmt: skip


@dataclass
class Call:
    """One request as it came in."""

    method: str  #: chat.postMessage; for other paths the path
    given: Json
    headers: dict[str, str]
    outcome: str = ""  #: ok, or the error

    @property
    def token(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")


@dataclass
class Fault:
    """What the next `times` calls of a method meet."""

    error: str = ""  #: `{"ok": false, "error": …}`
    status: int = 0  #: an HTTP status; 429 comes with `retry_after`
    retry_after: int = 1
    drop: bool = False  #: the connection is cut
    delay_s: float = 0
    until: asyncio.Event | None = None  #: the answer is held back
    after: bool = False  #: the method has its effect all the same
    times: int = 1


class WebApi:
    """`/api/<method>`, uploads and private files."""

    def __init__(self, workspace: Workspace, methods: Methods, bot_token: str, app_token: str) -> None:
        self._workspace, self._methods = workspace, methods
        self.bot_token, self.app_token = bot_token, app_token
        self.revoked: set[str] = set()
        self.off: set[str] = set()
        self.calls: list[Call] = []
        self.scopes: set[str] = set(MANIFEST["oauth_config"]["scopes"]["bot"])  #: of the bot token
        self.responses: list[Json] = []  #: what came to a response_url
        self._faults: dict[str, list[Fault]] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.route("*", "/api/{method}", self.call),
            web.post("/upload/{id}", self.upload),
            web.get("/files-pri/{team_file}/{name}", self.download),
            web.post("/response/{id}", self.respond),
        ]

    def fault(self, method: str, fault: Fault) -> None:
        self._faults.setdefault(method, []).append(fault)

    def clear_faults(self) -> None:
        self._faults.clear()

    async def call(self, request: web.Request) -> web.StreamResponse:
        call = Call(request.match_info["method"], await _arguments(request), _headers(request))
        self.calls.append(call)
        fault = self._next_fault(call.method)
        if fault and not fault.after:
            return await self._as_fault(request, fault, call)
        try:
            self._check_token(call)
            self._check_scope(call)
            answer: Json = {"ok": True, **self._methods.named(call.method)(call.given)}
            call.outcome = "ok"
        except SlackError as error:
            answer = {"ok": False, "error": error.code, **error.more}
            call.outcome = error.code
        if fault:
            return await self._as_fault(request, fault, call, answer)
        return web.json_response(answer, headers={"X-OAuth-Scopes": ",".join(sorted(self.scopes))})

    def _next_fault(self, method: str) -> Fault | None:
        if method in self.off:
            return Fault(error="unknown_method")
        waiting = self._faults.get(method, [])
        if not waiting:
            return None
        waiting[0].times -= 1
        return waiting.pop(0) if waiting[0].times <= 0 else waiting[0]

    async def _as_fault(
        self, request: web.Request, fault: Fault, call: Call, answer: Json | None = None
    ) -> web.StreamResponse:
        call.outcome = call.outcome or fault.error or f"fault {fault.status}"
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.until:
            await fault.until.wait()
        if fault.drop:
            assert request.transport is not None
            request.transport.abort()
        if fault.status:
            headers = {"Retry-After": str(fault.retry_after)} if fault.status == 429 else {}
            said = {"ok": False, "error": "ratelimited" if fault.status == 429 else "internal_error"}
            return web.json_response(said, status=fault.status, headers=headers)
        if fault.error:
            return web.json_response({"ok": False, "error": fault.error})
        if answer is None:  # only held back: now it is done
            answer = {"ok": True, **self._methods.named(call.method)(call.given)}
        return web.json_response(answer)

    def _check_token(self, call: Call) -> None:
        token = call.token or call.given.pop("token", "")
        if not token:
            raise SlackError("not_authed")
        if token in self.revoked:
            raise SlackError("token_revoked")
        if token not in (self.bot_token, self.app_token):
            raise SlackError("invalid_auth")
        if (token == self.app_token) != (call.method in APP_TOKEN_METHODS):
            raise SlackError("not_allowed_token_type")

    def _check_scope(self, call: Call) -> None:
        needed = SCOPES.get(call.method, "")
        if "{}" in needed:
            place = self._workspace.channels.get(str(call.given.get("channel", "")), {})
            kind = "im" if place.get("is_im") else "mpim" if place.get("is_mpim") else "channels"
            needed = needed.format(kind)
        if needed and needed not in self.scopes:
            raise SlackError("missing_scope", needed=needed, provided=",".join(sorted(self.scopes)))

    async def upload(self, request: web.Request) -> web.Response:
        self.calls.append(Call(request.path, {}, _headers(request), "ok"))
        fault = self._next_fault("upload")
        if fault:
            return web.Response(status=fault.status or 500)
        self._workspace.files[request.match_info["id"]].data = await request.read()
        return web.Response(text="OK")

    async def download(self, request: web.Request) -> web.Response:
        """Without a good token Slack sends people to a page where they sign in."""
        call = Call(request.path, {}, _headers(request), "ok")
        self.calls.append(call)
        fault = self._next_fault("download")
        if fault:
            return web.Response(status=fault.status or 500)
        if call.token != self.bot_token or call.token in self.revoked:
            call.outcome = "redirected"
            raise web.HTTPFound("/signin")
        file = self._workspace.files[request.match_info["team_file"].removeprefix(f"{TEAM}-")]
        return web.Response(body=file.data, content_type=file.mimetype)

    async def respond(self, request: web.Request) -> web.Response:
        self.calls.append(Call(request.path, {}, _headers(request), "ok"))
        self.responses.append({"id": request.match_info["id"], **await request.json()})
        return web.Response(text="ok")


def _headers(request: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


async def _arguments(request: web.Request) -> Json:
    """From the query, a form or JSON; values of a form that hold JSON are read."""
    found: Json = {name: _value(name, value) for name, value in request.query.items()}
    if request.content_type == "application/json":
        return found | (await request.json() if request.can_read_body else {})
    form = await request.post()
    return found | {name: _value(name, value) for name, value in form.items()}


_PARSED: dict[str, Callable[[str], Any]] = dict.fromkeys(
    ("blocks", "metadata", "attachments", "files", "view", "chunks"), json.loads
)


def _value(name: str, value: Any) -> Any:
    return _PARSED[name](value) if name in _PARSED and isinstance(value, str) else value

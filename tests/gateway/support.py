"""What tests of the gateway stand on."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import web

from agent_session.gateway.app import application
from agent_session.gateway.runner import runner_of
from agent_session.gateway.state import Gateway
from agent_session.gateway.tokens import TOKEN_FILE, Tokens, make_token
from agent_session.settings import Settings
from tests.support import Service

TOKENS = """
[tokens.reader]
token = "reader-token-0123456789"
scopes = ["read"]
prefixes = ["team"]
[tokens.phone]
token = "phone-token-0123456789"
prefixes = ["main", "team"]
[tokens.guest]
token = "guest-token-0123456789"
[tokens.judge]
token = "judge-token-0123456789"
scopes = ["read", "approve"]
prefixes = [""]
"""


@dataclass
class Said:
    """An answer, read whole."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def code(self) -> str:
        """Of a problem."""
        return str(self.json["error"]["code"])


class Door:
    """A client of one gateway, with its token unless told otherwise."""

    def __init__(self, gateway: Gateway, service: Service, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self.gateway, self.service, self.http, self.url, self.token = gateway, service, http, url, token

    async def call(
        self, method: str, path: str, *, token: str | None = None, headers: Mapping[str, str] | None = None, **how: Any
    ) -> Said:
        """`token`: another one; empty for none."""
        own = self.token if token is None else token
        sent = {"Authorization": f"Bearer {own}"} if own else {}
        async with self.http.request(method, self.url + path, headers={**sent, **(headers or {})}, **how) as response:
            return Said(response.status, dict(response.headers), await response.read())

    async def get(self, path: str, **how: Any) -> Said:
        return await self.call("GET", path, **how)

    async def post(self, path: str, **how: Any) -> Said:
        return await self.call("POST", path, **how)

    async def say(self, key: str, text: str, *, wait: int = 30, **how: Any) -> Said:
        path = f"/v1/sessions/{quote(key, safe='')}/messages" + (f"?wait={wait}" if wait else "")
        return await self.post(path, json={"text": text}, **how)


@asynccontextmanager
async def door(service: Service, **gateway: Any) -> AsyncIterator[Door]:
    """A gateway of the service's volume, with these settings of its own."""
    settings: Settings = service.settings
    token = str(gateway.get("token", ""))
    if not token and "token_file" not in gateway:
        make_token(settings.data_dir)
        token = (settings.data_dir / TOKEN_FILE).read_text().strip()
    if gateway:
        dumped = settings.gateway.model_dump() | gateway
        settings = settings.model_copy(update={"gateway": type(settings.gateway)(**dumped)})
    made = Gateway(service.temporal, settings, Tokens(settings.gateway, settings.data_dir))
    runner = runner_of(application(made), drain_s=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as http:
            yield Door(made, service, http, url, token)
    finally:
        made.stopping.set()
        await runner.cleanup()

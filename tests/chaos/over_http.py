"""A sender that speaks HTTP with the gateway: a message is a POST with its id as the Idempotency-Key, and so is
every try again and every wait for its reply."""

from typing import Any
from urllib.parse import quote

import aiohttp

from tests.chaos.plan import Said

WAIT_S = 30
TIMEOUT = aiohttp.ClientTimeout(total=WAIT_S + 15, sock_connect=5)


class NotTaken(Exception):
    """The gateway is away, or says try again."""


class OverHttp:
    """One client of one gateway, wherever it listens now."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._headers = url, {"Authorization": f"Bearer {token}"}
        self._http: aiohttp.ClientSession | None = None

    async def send(self, one: Said) -> None:
        """Errors: NotTaken; after it nobody knows whether it was taken."""
        await self._post(one, 0)

    async def reply(self, one: Said) -> dict[str, Any] | None:
        """None while it has none. Errors: NotTaken."""
        status, answer = await self._post(one, WAIT_S)
        return None if status == 202 else answer

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def _post(self, one: Said, wait_s: int) -> tuple[int, dict[str, Any]]:
        self._http = self._http or aiohttp.ClientSession(timeout=TIMEOUT)
        url = f"{self._url}/v1/sessions/{quote(one.session, safe='')}/messages?wait={wait_s}"
        body = {"text": one.text, "mode": one.mode}
        try:
            async with self._http.post(url, json=body, headers={**self._headers, "Idempotency-Key": one.id}) as said:
                answer: dict[str, Any] = await said.json()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise NotTaken(f"{type(error).__name__}: {error}") from None
        if said.status not in (200, 202):
            raise NotTaken(f"{said.status}: {answer}")
        return said.status, answer

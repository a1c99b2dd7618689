"""Slack's events by HTTP, instead of over a socket: for a server that Slack can reach.

Nothing of a request is believed before its signature is checked (v0, at most five minutes old). Slack is told 200
only when Temporal has accepted what it said.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import orjson
from slack_sdk.signature import SignatureVerifier

from channels.slack.dispatch import COMMANDS, EVENTS, INTERACTIVE, Dispatch
from channels.slack.events import Json
from channels.slack.inbound import log
from channels.slack.web import words_of

BODY_BYTES = 1024 * 1024  #: Slack's are far smaller


class HttpEvents:
    """The handler of one address for events, commands and buttons alike."""

    def __init__(self, connect: Callable[[], Awaitable[Dispatch]], signing_secret: str) -> None:
        """`connect` is called once, by the first request that is Slack's. Errors: ValueError without a secret."""
        self._connect, self._verifier = connect, SignatureVerifier(signing_secret)
        self._connected: Dispatch | None = None
        self._connecting = asyncio.Lock()

    async def handle(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """The status and the body of the answer; never raises. JSON when the body is not empty."""
        if len(body) > BODY_BYTES:
            return 413, b""
        if not self._is_slacks(body, headers):
            return 401, b""
        given = {name.lower(): value for name, value in headers.items()}
        try:
            kind, payload = _read(body, given.get("content-type", ""))
        except (ValueError, UnicodeDecodeError):
            return 400, b""
        if kind == EVENTS and payload.get("type") == "url_verification":
            return 200, orjson.dumps({"challenge": str(payload.get("challenge", ""))})
        attempt = given.get("x-slack-retry-num", "0")
        try:
            dispatch = await self._dispatch()
            answer = await dispatch.take(kind, payload, int(attempt) if attempt.isdigit() else 0)
        except Exception as error:  # whatever it is: not accepted, so Slack comes again
            log.warning("not accepted, so Slack delivers it again", kind=kind, error=words_of(error))
            return 503, b""
        return 200, orjson.dumps(answer) if answer else b""

    async def _dispatch(self) -> Dispatch:
        async with self._connecting:
            if self._connected is None:
                self._connected = await self._connect()
            return self._connected

    def _is_slacks(self, body: bytes, headers: Mapping[str, str]) -> bool:
        try:
            return self._verifier.is_valid_request(body, dict(headers))
        except ValueError:  # a timestamp that is none, or bytes that are no text
            return False


def _read(body: bytes, content_type: str) -> tuple[str, Json]:
    """What kind of thing it is, and the thing. Errors: ValueError."""
    if not content_type.startswith("application/x-www-form-urlencoded"):
        return EVENTS, _mapping(orjson.loads(body))
    form = dict(parse_qsl(body.decode(), keep_blank_values=True))
    if "payload" in form:
        return INTERACTIVE, _mapping(orjson.loads(form["payload"]))
    return COMMANDS, dict(form)


def _mapping(value: Any) -> Json:
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value  # pyright: ignore[reportUnknownVariableType]

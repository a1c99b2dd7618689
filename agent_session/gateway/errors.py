"""What a client reads when a request fails: one JSON shape, the status that fits, and never a traceback.

    {"error": {"message": …, "type": …, "code": …, "param": … or null, "request_id": …}}

It is OpenAI's shape with an id, so that OpenAI's own clients show it.
"""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import ValidationError
from temporalio.service import RPCError, RPCStatusCode

from agent_session.client_types import NoSuchMessage, NoSuchSession, SessionBusy, SessionIsLive
from agent_session.domain.ids import BadMessageId, BadSessionKey
from agent_session.transcript.volume import VolumeUnavailable

BUSY_RETRY_S, AWAY_RETRY_S = 2, 2
KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    409: "conflict_error", 413: "invalid_request_error", 422: "invalid_request_error", 429: "rate_limit_error",
}  # fmt: skip
AWAY = (
    RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED,
    RPCStatusCode.RESOURCE_EXHAUSTED,
)  # fmt: skip


@dataclass
class Problem(Exception):
    """An answer other than success. `code` is a stable word for programs."""

    status: int
    code: str
    message: str
    param: str | None = None
    headers: dict[str, str] = field(default_factory=lambda: dict[str, str]())

    def body(self, request_id: str) -> dict[str, Any]:
        kind = KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": self.message, "type": kind, "code": self.code, "param": self.param}
        return {"error": error | {"request_id": request_id}}


def problem_of(error: BaseException) -> Problem:
    """The answer to any exception of a handler."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ValidationError):
        return _invalid(error)
    if isinstance(error, BadSessionKey):
        return Problem(400, "bad_session_key", str(error), "key")
    if isinstance(error, BadMessageId):
        return Problem(400, "bad_message_id", str(error), "Idempotency-Key")
    if isinstance(error, NoSuchSession):
        return Problem(404, "no_such_session", str(error))
    if isinstance(error, NoSuchMessage):
        return Problem(404, "no_such_message", str(error))
    if isinstance(error, SessionIsLive):
        return Problem(409, "session_is_live", str(error))
    if isinstance(error, SessionBusy):
        return Problem(429, "session_busy", str(error), headers={"Retry-After": str(BUSY_RETRY_S)})
    if isinstance(error, VolumeUnavailable):
        return _away("volume_unavailable", "the data volume is away; nothing was taken, try again")
    if isinstance(error, RPCError) and error.status in AWAY:
        return _away("temporal_unavailable", "Temporal does not answer; try again with the same Idempotency-Key")
    if isinstance(error, web.HTTPException):
        return _of_http(error)
    if isinstance(error, ValueError):
        return Problem(400, "bad_request", str(error))
    return Problem(500, "internal", "the gateway failed at this request; its log has the details under the request id")


def _away(code: str, message: str) -> Problem:
    return Problem(503, code, message, headers={"Retry-After": str(AWAY_RETRY_S)})


def _invalid(error: ValidationError) -> Problem:
    """The first field that is wrong, by its path; its value is not repeated."""
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or None
    return Problem(400, "invalid_field", f"{where or 'body'}: {first['msg']}", where)


def _of_http(error: web.HTTPException) -> Problem:
    """aiohttp's own: no such path, wrong method, body too large."""
    words = {404: "no_such_path", 405: "method_not_allowed", 413: "too_large"}
    kept = {name: value for name, value in error.headers.items() if name in ("Allow", "Retry-After")}
    text = "the body is too large" if error.status == 413 else error.reason
    return Problem(error.status, words.get(error.status, "bad_request"), text, headers=kept)

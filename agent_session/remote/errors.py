"""What can go wrong between a command and a gateway, and what its HTTP answers mean.

No message holds a token; each says what to do. What is worth another try is a `GatewayUnreachable`, an OSError as any
other lost connection, or a `GatewayBusy`.
"""

from collections.abc import Mapping
from typing import Any, cast

from agent_session.client_types import NoSuchMessage, NoSuchSession, SessionBusy, SessionError, SessionIsLive
from agent_session.connection import Unreachable

REDIRECTS = range(300, 400)
LONGEST_PAUSE_S = 30.0


class GatewayUnreachable(Unreachable, OSError):
    """The gateway does not answer, or what stands behind it is away: the same request again may do."""

    retry_after_s: float = 0.0  #: as the gateway asked


class GatewayBusy(SessionBusy):
    """The session takes no more messages right now; nothing was accepted."""

    retry_after_s: float = 0.0


class NotTrusted(Unreachable, SessionError):
    """Whoever answers there has not proved to be the gateway; no token was sent."""


class NotAGateway(Unreachable, SessionError):
    """Something else answers at that address."""


class NotLetIn(SessionError):
    """The token is not known there (401)."""


class NotAllowed(SessionError):
    """The token is known, and does not open this (403)."""


def problem_of(status: int, headers: Mapping[str, str], body: object, url: str, source: str) -> Exception:
    """What an answer other than success means. `url`: of the gateway; `source`: where the token came from."""
    told: Mapping[str, Any] = cast(Mapping[str, Any], body) if isinstance(body, dict) else {}
    given = told.get("error")
    error: Mapping[str, Any] = cast(Mapping[str, Any], given) if isinstance(given, dict) else {}
    code, words = str(error.get("code", "")), str(error.get("message", ""))
    if status in REDIRECTS:
        return NotAGateway(f"{url} answers with a redirect, which is not followed: name the gateway's own URL")
    if status >= 500 and status != 500:
        away = GatewayUnreachable(f"the gateway at {url} cannot serve this now: {words or f'status {status}'}")
        away.retry_after_s = _seconds(headers)
        return away
    if not code:
        return NotAGateway(f"{url} answers with status {status}, but not as a gateway does: check the URL")
    if status == 401 or code == "too_many_failures":
        return NotLetIn(f"the gateway at {url} does not know the token of {source}: give the right one ({words})")
    if status == 403:
        return NotAllowed(f"the gateway at {url} refuses this with the token of {source}: {words}")
    if status == 429 and code != "queue_full":
        busy = GatewayBusy(words)
        busy.retry_after_s = _seconds(headers)
        return busy
    return _of_code(status, code, words, str(error.get("request_id", "")))


def _of_code(status: int, code: str, words: str, request_id: str) -> Exception:
    if code == "no_such_path":
        return NotAGateway("this gateway does not know the operation: it is older than this command, update it")
    kinds: dict[str, type[SessionError]] = {
        "queue_full": SessionBusy,
        "no_such_session": NoSuchSession,
        "no_such_message": NoSuchMessage,
        "session_is_live": SessionIsLive,
    }
    if code in kinds:
        return kinds[code](words)
    if status == 500:
        return SessionError(f"{words} (request id {request_id})")
    return ValueError(words) if status in (400, 413, 422) else SessionError(words)


def pause_asked(error: BaseException) -> float:
    """Seconds to wait before the next try, as the gateway asked; 0 when it did not."""
    return float(getattr(error, "retry_after_s", 0.0))


def _seconds(headers: Mapping[str, str]) -> float:
    given = headers.get("Retry-After", "")
    return min(float(given), LONGEST_PAUSE_S) if given.isdecimal() else 0.0

"""One-time codes for the page, and the tokens of pages that they are exchanged for.

A code is in the fragment of an address, so it never reaches a server's log; it is good for one exchange within a
minute. What it gives ends with the token that issued it, after 12 hours, or with this process: nothing of it is
stored, and only digests are kept in memory. Keeps I10: a page may never do more than the token it comes from.
"""

import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aiohttp import web
from pydantic import Field

from agent_session.gateway.access import SCOPES, Access, digest_of
from agent_session.gateway.errors import Problem
from agent_session.gateway.route import ANY, Answer, Call, Route, Strict, Tolerant

if TYPE_CHECKING:
    from agent_session.gateway.state import Gateway

CODE_S, PAGE_TOKEN_S = 60, 12 * 3600
BODY_BYTES = 4 * 1024
CODES_KEPT, PAGE_TOKENS_KEPT = 10, 50  #: of one issuing token; the oldest make room


@dataclass(frozen=True)
class _Grant:
    """A code, or a page's token, by its digest."""

    digest: bytes
    issuer: bytes  #: digest of the token it comes from
    scopes: frozenset[str]
    until: float  #: of the monotonic clock


class PageTokens:
    """Those of one gateway process. Each look takes as long for a wrong secret as for a right one."""

    def __init__(self) -> None:
        self._codes: list[_Grant] = []
        self._tokens: list[_Grant] = []

    def issue(self, access: Access, scopes: frozenset[str]) -> str:
        """A code for at most these scopes of the access."""
        return _remember(self._codes, access.digest, scopes, CODE_S, CODES_KEPT)

    def exchange(self, code: str, known: Sequence[Access]) -> tuple[str, Access] | None:
        """A page's token and what it opens, once for each code; None for one that is unknown, used or too old, or
        whose token has gone."""
        grant = _found(self._codes, code)
        if grant is None:
            return None
        self._codes.remove(grant)
        access = _access(grant, known)
        if access is None:
            return None
        return _remember(self._tokens, grant.issuer, grant.scopes, PAGE_TOKEN_S, PAGE_TOKENS_KEPT), access

    def access_of(self, presented: str, known: Sequence[Access]) -> Access | None:
        """What a page's token opens now: never more than the token it comes from."""
        grant = _found(self._tokens, presented)
        return _access(grant, known) if grant is not None else None


def _remember(grants: list[_Grant], issuer: bytes, scopes: frozenset[str], seconds: float, kept: int) -> str:
    secret = secrets.token_urlsafe(32)
    now = time.monotonic()
    of_issuer = [one for one in grants if one.issuer == issuer and one.until > now]
    gone = set(of_issuer[: max(0, len(of_issuer) + 1 - kept)])
    grants[:] = [one for one in grants if one.until > now and one not in gone]
    grants.append(_Grant(digest_of(secret), issuer, scopes, now + seconds))
    return secret


def _found(grants: Sequence[_Grant], secret: str) -> _Grant | None:
    digest = digest_of(secret)
    found: _Grant | None = None
    for one in grants:
        if hmac.compare_digest(one.digest, digest):
            found = one
    return found if found is not None and found.until > time.monotonic() else None


def _access(grant: _Grant, known: Sequence[Access]) -> Access | None:
    """With the issuing token as it is now: its file may have been changed since."""
    issuer = next((one for one in known if hmac.compare_digest(one.digest, grant.issuer)), None)
    if issuer is None:
        return None
    scopes = frozenset(scope for scope in grant.scopes if issuer.may(scope))
    return replace(issuer, digest=grant.digest, scopes=scopes)


class Wanted(Strict):
    scopes: list[str] = Field(default=[], description="What the page may do; empty: all that the token may.")


class Code(Tolerant):
    code: str
    expires_in_s: int = CODE_S


class Exchange(Strict):
    code: str = Field(max_length=200)


class PageToken(Tolerant):
    token: str = Field(description="For 'Authorization: Bearer …'. It ends with this gateway process.")
    expires_in_s: int = PAGE_TOKEN_S
    name: str = Field(description="Whose token issued it.")
    scopes: list[str]


async def issue(gateway: "Gateway", call: Call) -> web.StreamResponse:
    access, body = call.access, call.body
    wanted: Wanted = body
    if not any(access.digest == one.digest for one in gateway.tokens.known()):
        raise Problem(
            403, "no_token_of_its_own", "codes are made with a token of the gateway, not from a page or by a proxy"
        )
    unknown = set(wanted.scopes) - set(SCOPES)
    if unknown:
        raise Problem(400, "invalid_field", f"scopes: there are {', '.join(SCOPES)}", "scopes")
    scopes = frozenset(wanted.scopes) or access.scopes
    for scope in sorted(scopes):
        if not access.may(scope):
            raise Problem(403, "scope_missing", f"this token lacks the scope {scope!r}", "scopes")
    return web.json_response(Code(code=gateway.pages.issue(access, scopes)).model_dump())


async def exchange(gateway: "Gateway", call: Call) -> web.StreamResponse:
    body: Exchange = call.body
    found = gateway.pages.exchange(body.code, gateway.tokens.known())
    if found is None:
        raise gateway.refusal(
            call.request.remote or "",
            call.id,
            "no_valid_code",
            "this code was used, is too old or unknown: make a new one",
        )
    token, access = found
    return web.json_response(PageToken(token=token, name=access.name, scopes=sorted(access.scopes)).model_dump())


ROUTES = (
    Route(
        method="POST",
        path="/v1/codes",
        handler=issue,
        summary="A one-time code for the page, good for a minute",
        scope=ANY,
        tag="page",
        body=Wanted,
        body_bytes=BODY_BYTES,
        answers={200: Answer(about="The code", body=Code)},
    ),
    Route(
        method="POST",
        path="/v1/codes/exchange",
        handler=exchange,
        summary="A page's token for a code, once",
        tag="page",
        body=Exchange,
        body_bytes=BODY_BYTES,
        answers={200: Answer(about="The token", body=PageToken)},
        problems=(401, 429),
    ),
)

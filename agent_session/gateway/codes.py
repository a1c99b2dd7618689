"""One-time codes for the page, and the tokens of pages that they are exchanged for, over HTTP.

A code is in the fragment of an address, so it never reaches a server's log; it is good for one exchange within a
minute. What it gives ends with the token that issued it, or after 12 hours. Any gateway of the volume will do for
either, and a restart ends nothing: `page_tokens.py`.
"""

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web
from pydantic import Field

from agent_session.gateway.access import SCOPES
from agent_session.gateway.errors import Problem
from agent_session.gateway.page_tokens import CODE_S, LONGEST, PAGE_TOKEN_S
from agent_session.gateway.route import ANY, Answer, Call, Route, Strict, Tolerant

if TYPE_CHECKING:
    from agent_session.gateway.state import Gateway

BODY_BYTES = 4 * 1024


class Wanted(Strict):
    scopes: list[str] = Field(default=[], description="What the page may do; empty: all that the token may.")


class Code(Tolerant):
    code: str
    expires_in_s: int = CODE_S


class Exchange(Strict):
    code: str = Field(max_length=LONGEST)


class PageToken(Tolerant):
    token: str = Field(description="For 'Authorization: Bearer …', at any gateway of the volume.")
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
    code = await asyncio.to_thread(gateway.pages.issue, access, scopes)
    return web.json_response(Code(code=code).model_dump())


async def exchange(gateway: "Gateway", call: Call) -> web.StreamResponse:
    body: Exchange = call.body
    found = await asyncio.to_thread(gateway.pages.exchange, body.code, gateway.tokens.known())
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
        problems=(401, 429, 503),
    ),
)

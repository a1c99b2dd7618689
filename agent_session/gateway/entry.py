"""From a request that passed the guard to a handler's `Call`: whose token, which session, what body."""

import ipaddress
import time
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ValidationError

from agent_session.domain.ids import session_key
from agent_session.gateway.access import NAME, OWNER, Access, access_of, bearer_of, digest_of
from agent_session.gateway.body import read_body
from agent_session.gateway.errors import Problem, problem_of
from agent_session.gateway.guard import ID_OF
from agent_session.gateway.metrics import CLIENT_LEFT
from agent_session.gateway.route import ANY, EVENTS, OPEN, Call, Route
from agent_session.gateway.state import Gateway
from agent_session.telemetry import spans

PROXY_SECRET = "X-Proxy-Secret"
NOBODY = Access(name="nobody", digest=b"", scopes=frozenset(), prefixes=())


def entry(gateway: Gateway, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The aiohttp handler of a route."""

    async def handle(request: web.Request) -> web.StreamResponse:
        access = NOBODY if route.scope == OPEN else admit(gateway, request, route.scope)
        key = ""
        if "key" in request.match_info:
            key = session_key(request.match_info["key"])
            if not access.reaches(key):
                raise Problem(403, "not_your_session", f"this token does not reach session {key!r}", "key")
        call = Call(
            request=request,
            id=request[ID_OF],
            access=access,
            client=gateway.client_of(access),
            key=key,
            query=_query(route, request),
            body=await _body(route, request, gateway.settings.gateway.max_body_bytes),
        )
        with spans.continuing(request.headers.get("traceparent", "")):
            return await route.handler(gateway, call)

    async def counted(request: web.Request) -> web.StreamResponse:
        began, status, streamed = time.monotonic(), CLIENT_LEFT, False
        try:
            response = await handle(request)
            status, streamed = response.status, response.content_type == EVENTS
            return response
        except Exception as error:
            status = problem_of(error).status
            raise
        finally:
            gateway.metrics.answered(route.path, route.method, status, None if streamed else time.monotonic() - began)

    return counted


def admit(gateway: Gateway, request: web.Request, scope: str) -> Access:
    """Whose request it is. Errors: Problem 401, 403, 429."""
    known, token = gateway.tokens.known(), bearer_of(request.headers.get("Authorization", ""))
    access = of_proxy(gateway, request) or access_of(known, token) or gateway.pages.access_of(token, known)
    if access is None:
        raise gateway.refusal(
            request.remote or "", request[ID_OF], "no_valid_token", "send the token as 'Authorization: Bearer …'"
        )
    if scope != ANY and not access.may(scope):
        raise Problem(403, "scope_missing", f"this token lacks the scope {scope!r}")
    return access


def of_proxy(gateway: Gateway, request: web.Request) -> Access | None:
    """The person whom a listed proxy names. Its address alone proves nothing: it must know the secret, too."""
    settings = gateway.settings.gateway
    secret, user = settings.proxy_secret.get_secret_value(), request.headers.get(settings.proxy_user_header, "")
    if not (settings.trusted_proxies and secret and user):
        return None
    given = request.headers.get(PROXY_SECRET, "")
    if not _is_listed(settings.trusted_proxies, request.remote or "") or not compare_digest(
        digest_of(secret), digest_of(given)
    ):
        return None
    name = user.lower().replace("@", "-at-")
    taken = {OWNER, *(one.name for one in gateway.tokens.known())}  # a person is nobody's token, and no other person
    alone = len(request.headers.getall(settings.proxy_user_header)) == 1 and "-at-" not in user.lower()
    if not NAME.fullmatch(name) or name in taken or not alone:
        raise Problem(403, "bad_identity", "the proxy's user name cannot be used here")
    prefixes = settings.proxy_prefixes
    return Access(name=name, digest=b"", scopes=frozenset(settings.proxy_scopes), prefixes=prefixes)


def _is_listed(proxies: tuple[str, ...], address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in ipaddress.ip_network(one, strict=False) for one in proxies)


def _query(route: Route, request: web.Request) -> BaseModel | None:
    if route.query is None:
        return None
    return route.query.model_validate(dict(request.query))


async def _body(route: Route, request: web.Request, limit_bytes: int) -> Any:
    if route.body is None:
        return None
    raw = await read_body(request, route.body_bytes or limit_bytes)
    try:
        return route.body.model_validate_json(raw or b"{}")
    except ValidationError as error:
        if error.errors(include_input=False)[0]["type"] == "json_invalid":
            raise Problem(400, "bad_json", "the body is no valid JSON") from None
        raise

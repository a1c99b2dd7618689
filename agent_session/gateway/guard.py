"""What every request passes before a handler sees it: correlation id, Host, Origin; and what every answer carries.

Keeps I9. A page of somebody else reaches a loopback port in two ways, by a name that resolves to 127.0.0.1
(rebinding: Host) and by the browser's own requests (Origin); both are refused before the token is looked at.
"""

import ipaddress
import re
import time
import uuid
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from agent_session.gateway.address import is_loopback
from agent_session.gateway.errors import Problem, problem_of
from agent_session.settings import GatewaySettings

REQUEST_ID = "X-Request-ID"
GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
ID_OF: web.RequestKey[str] = web.RequestKey("id", str)

log = structlog.get_logger("agent_session.gateway")


def host_is_ours(settings: GatewaySettings, header: str) -> bool:
    """Whether a request was sent to us by a name that is ours: loopback, one of `gateway.hosts`, and, where we are
    open to other machines, any address (rebinding needs a name)."""
    try:
        name = (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name in {one.lower() for one in settings.hosts} | {settings.host.lower()}:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    return address.is_loopback or not is_loopback(settings.host)


def origin_is_ours(host: str, origin: str | None, fetch_site: str | None) -> bool:
    """Whether a browser's request comes from our own page. Other clients send neither header."""
    if origin is not None:
        return urlsplit(origin).netloc.lower() == host.lower() != ""
    return fetch_site in (None, "same-origin", "none")


def middleware(settings: GatewaySettings) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.monotonic()
        given = request.headers.get(REQUEST_ID, "")
        request[ID_OF] = name = given if GIVEN_ID.fullmatch(given) else uuid.uuid4().hex
        try:
            _check(settings, request)
            response = await handler(request)
        except Exception as error:
            problem = problem_of(error)
            if problem.status == 500:
                log.exception("a request failed", request_id=name, path=_path(request))
            response = web.json_response(problem.body(name), status=problem.status, headers=problem.headers)
        took = round((time.monotonic() - began) * 1e3, 1)
        log.info(
            "request", request_id=name, method=request.method, path=_path(request), status=response.status, ms=took
        )
        return response

    return guard


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """To every answer, streams too."""
    response.headers[REQUEST_ID] = request.get(ID_OF, "")
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.pop("Server", None)


def _check(settings: GatewaySettings, request: web.Request) -> None:
    host = request.headers.get("Host", "")
    if not host_is_ours(settings, host):
        raise Problem(421, "wrong_host", "this gateway does not answer for that Host: add its name to gateway.hosts")
    if _follows_a_link(request):
        return
    if not origin_is_ours(host, request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")):
        raise Problem(403, "foreign_origin", "requests from other sites' pages are refused")


def _follows_a_link(request: web.Request) -> bool:
    """Somebody opens the page from elsewhere: it holds nothing yet, and no other site can read or frame it."""
    mode, into = request.headers.get("Sec-Fetch-Mode"), request.headers.get("Sec-Fetch-Dest")
    return (request.method, request.path, mode, into) == ("GET", "/", "navigate", "document")


def _path(request: web.Request) -> str:
    """The route's own, without keys; never the query."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "(none)"

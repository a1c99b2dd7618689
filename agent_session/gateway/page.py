"""The page: its files, read once, served by their known names.

Nothing of a request names a file on disk, and the page gets no cookie and no secret from here: it signs in with a
token, or with a code (see `codes.py`). Its policy allows scripts, styles and requests of this very origin alone.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from agent_session.gateway.entry import of_proxy
from agent_session.gateway.errors import Problem
from agent_session.gateway.route import Answer, Call, Route
from agent_session.gateway.state import Gateway

FOLDER = Path(__file__).parent / "page"
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class File:
    data: bytes
    kind: str
    tag: str  #: an ETag


def _file(data: bytes, kind: str) -> File:
    return File(data, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"')


FILES = {one.name: _file(one.read_bytes(), TYPES[one.suffix]) for one in FOLDER.iterdir() if one.suffix in TYPES}
#: for people whom a proxy names: the page need not ask who they are
SIGNED_IN = _file(FILES[INDEX].data.replace(b"<html ", b'<html data-identity="proxy" ', 1), TYPES[".html"])


async def index(gateway: Gateway, call: Call) -> web.StreamResponse:
    return _answer(call, SIGNED_IN if of_proxy(gateway, call.request) else FILES[INDEX])


async def file(gateway: Gateway, call: Call) -> web.StreamResponse:
    found = FILES.get(call.request.match_info["name"])
    if found is None:
        raise Problem(404, "no_such_path", "the page has no such file")
    return _answer(call, found)


def _answer(call: Call, found: File) -> web.Response:
    headers = {
        "ETag": found.tag,
        "Cache-Control": "no-cache",
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }
    if found.tag in call.header("If-None-Match"):
        return web.Response(status=304, headers=headers)
    return web.Response(body=found.data, headers={**headers, "Content-Type": found.kind})


ROUTES = (
    Route(
        method="GET",
        path="/",
        handler=index,
        summary="The page",
        tag="page",
        answers={200: Answer(about="HTML", content="text/html")},
    ),
    Route(
        method="GET",
        path="/page/{name}",
        handler=file,
        summary="A file of the page",
        tag="page",
        answers={200: Answer(about="A script, a style or a picture", content="*/*")},
        problems=(404,),
    ),
)

"""The list of sessions, in pages, from Temporal's visibility: newest first, only those that the token reaches.

A page costs two requests at most, however many sessions there are.
"""

import base64
import binascii
import hashlib
import hmac

from aiohttp import web
from pydantic import Field
from temporalio.client import Client

from agent_session.client import SESSIONS_QUERY
from agent_session.client_types import SessionRow, row_of
from agent_session.domain.ids import workflow_id
from agent_session.gateway.access import READ, Access
from agent_session.gateway.errors import Problem
from agent_session.gateway.route import Answer, Call, Route, Strict, Tolerant
from agent_session.gateway.state import Gateway

PAGE_SESSIONS, MOST_SESSIONS = 100, 200
CURSOR_CHARS = 4_096
MAC_BYTES = 16
UNQUOTABLE = ('"', "\\")  #: characters that Temporal's list filter loses, however they are escaped


class Listing(Strict):
    limit: int = Field(default=PAGE_SESSIONS, ge=1, le=MOST_SESSIONS, description="Sessions of a page, at most.")
    cursor: str = Field(default="", max_length=CURSOR_CHARS, description="`next` of the page before.")
    all: bool = Field(default=False, description="Also sessions that are closed.")


class ListingAnswer(Tolerant):
    sessions: list[SessionRow] = Field(description="`started_s`: seconds since the epoch; `needs`: approval, or empty.")
    next: str | None = Field(description="Cursor of the next page; null at the end.")


async def listing(gateway: Gateway, call: Call) -> web.StreamResponse:
    asked: Listing = call.query
    query = SESSIONS_QUERY + _reached(call.access)
    query += " AND ExecutionStatus != 'ContinuedAsNew'" if asked.all else " AND ExecutionStatus = 'Running'"
    secret = gateway.volume.signing_key(gateway.settings.mac_key_file)
    token = _token(secret, asked.cursor) if asked.cursor else None
    found = gateway.temporal.list_workflows(query, page_size=asked.limit, next_page_token=token)
    await found.fetch_next_page()
    rows = [row for row in map(row_of, found.current_page or ()) if call.access.reaches(row.key)]
    rows = await _newest_lives(gateway.temporal, rows)
    following = _cursor(secret, found.next_page_token) if found.next_page_token else None
    return web.json_response(ListingAnswer(sessions=rows, next=following).model_dump())


def _reached(access: Access) -> str:
    """The part of the query that leaves out what the token does not reach; `reaches` has the last word."""
    if "" in access.prefixes:
        return ""
    roots = {prefix.rstrip("/") for prefix in (*access.prefixes, access.home)}
    return f" AND ({' OR '.join(_below(workflow_id(root)) for root in sorted(roots))})"


def _below(root: str) -> str:
    """A filter that leaves out none of them; of a name that cannot be written down, its beginning counts."""
    whole = min((root.index(one) for one in UNQUOTABLE if one in root), default=-1)
    if whole >= 0:
        return f"WorkflowId STARTS_WITH {_literal(root[:whole])}"
    return f"WorkflowId = {_literal(root)} OR WorkflowId STARTS_WITH {_literal(root + '/')}"


async def _newest_lives(temporal: Client, rows: list[SessionRow]) -> list[SessionRow]:
    """Without earlier lives of sessions that were closed and have begun anew, which may be on another page."""
    closed = {row.key for row in rows if not row.running}
    newest: dict[str, SessionRow] = {}
    plain = sorted(_literal(workflow_id(key)) for key in closed if not any(one in key for one in UNQUOTABLE))
    if plain:
        query = f"WorkflowId IN ({', '.join(plain)}) AND ExecutionStatus != 'ContinuedAsNew'"
        async for found in temporal.list_workflows(query):
            row = row_of(found)
            if row.key not in newest or _age(row) < _age(newest[row.key]):
                newest[row.key] = row
    for key in closed - set(newest):
        newest[key] = row_of(await temporal.get_workflow_handle(workflow_id(key)).describe())
    kept: dict[str, SessionRow] = {}
    for row in rows:
        if row.running or row == newest[row.key]:
            kept.setdefault(row.key, row)
    return list(kept.values())


def _age(row: SessionRow) -> tuple[bool, int]:
    return (not row.running, -row.started_s)


def _literal(text: str) -> str:
    """As a string of Temporal's list filter."""
    return "'" + text.replace("'", "''") + "'"


def _cursor(secret: bytes, token: bytes) -> str:
    """Signed, because Temporal fails at a token that is none of its own instead of refusing it."""
    return base64.urlsafe_b64encode(_mac(secret, token) + token).decode()


def _token(secret: bytes, cursor: str) -> bytes:
    try:
        raw = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raw = b""
    mac, token = raw[:MAC_BYTES], raw[MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(secret, token)):
        raise Problem(400, "bad_cursor", "the cursor is none of ours: begin again without one", "cursor")
    return token


def _mac(secret: bytes, token: bytes) -> bytes:
    return hmac.new(secret, b"cursor\0" + token, hashlib.sha256).digest()[:MAC_BYTES]


ROUTES = (
    Route(
        method="GET",
        path="/v1/sessions",
        handler=listing,
        summary="Sessions that the token reaches, the newest first",
        scope=READ,
        query=Listing,
        answers={200: Answer(about="A page of them", body=ListingAnswer)},
    ),
)

"""One operation of the API: path, who may use it, what goes in and out. The same table makes the server and
`/openapi.json`, so they cannot differ."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from agent_session.client import SessionClient
from agent_session.domain.status import Status
from agent_session.gateway.access import Access
from agent_session.gateway.errors import Problem

if TYPE_CHECKING:
    from agent_session.gateway.state import Gateway

OPEN = ""  #: needs no token
ANY = "any"  #: needs a token, whatever its scopes
JSON, ANY_BYTES, EVENTS = "application/json", "application/octet-stream", "text/event-stream"


class Strict(BaseModel):
    """A body or query whose unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Tolerant(BaseModel):
    """One whose unknown fields are ignored: for protocols of others, which grow."""

    model_config = ConfigDict(extra="ignore", frozen=True)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request that was let in: who asks, and what was read from it."""

    request: web.Request
    id: str  #: the correlation id
    access: Access
    client: SessionClient  #: signs as `access.principal`, with the grants that its scopes give
    key: str = ""  #: the session of the path, which the token reaches
    body: Any = None  #: an instance of the route's `body`
    query: Any = None

    def header(self, name: str) -> str:
        return self.request.headers.get(name, "")

    async def status_by_a_worker(self) -> Status:
        """Of its session. Errors: NoSuchSession; Problem where no worker can say what it is doing."""
        found = await self.client.status(self.key)
        if found.answered_by != "worker" and found.state != "closed":
            raise Problem(503, "no_worker", "no worker answers; try again", headers={"Retry-After": "2"})
        return found


Handler = Callable[["Gateway", Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A documented answer."""

    about: str
    body: type[BaseModel] | None = None
    content: str = JSON
    headers: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())


@dataclass(frozen=True, kw_only=True)
class Route:
    """`{key}` in the path is a session's key, percent-encoded (a slash is `%2F`)."""

    method: str
    path: str
    handler: Handler
    summary: str
    scope: str = OPEN
    tag: str = "sessions"
    body: type[BaseModel] | None = None
    body_bytes: int = 0  #: of its body; 0: `gateway.max_body_bytes`
    body_content: str = ""  #: for a body that is no JSON: its media type
    query: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: dict[str, str]())  #: that it reads, and what they mean
    answers: Mapping[int, Answer] = field(default_factory=lambda: dict[int, Answer]())
    problems: tuple[int, ...] = ()  #: beyond those that every route with a token has

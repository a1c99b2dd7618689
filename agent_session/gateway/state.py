"""What the handlers of one gateway process share."""

import asyncio
from pathlib import Path

import structlog
from temporalio.client import Client

from agent_session.client import SessionClient
from agent_session.domain.authority import APPROVE_GRANT, SHELL_GRANT
from agent_session.gateway.access import APPROVE, SEND, Access
from agent_session.gateway.attempts import FailedAttempts
from agent_session.gateway.errors import Problem
from agent_session.gateway.feed import Feeds
from agent_session.gateway.idempotency import RecentMessages
from agent_session.gateway.metrics import Metrics
from agent_session.gateway.openai_recent import Recent
from agent_session.gateway.page_tokens import PageTokens
from agent_session.gateway.probe import Probe
from agent_session.gateway.tokens import Tokens
from agent_session.settings import Settings
from agent_session.transcript.volume import Volume
from agent_session.waiting import Waiter
from channels.base import HttpEvents

CHANNEL = "http"
CLIENTS_KEPT = 1_000

log = structlog.get_logger("agent_session.gateway")


class Gateway:
    """One a process."""

    def __init__(self, temporal: Client, settings: Settings, tokens: Tokens) -> None:
        self.temporal, self.settings, self.tokens = temporal, settings, tokens
        self.volume = Volume(settings.data_dir)
        self.failures = FailedAttempts()
        self.openai = Recent()
        self.pages = PageTokens(self.volume, settings.mac_key_file)
        self.stopping = asyncio.Event()  #: streams end when it is set
        self.metrics = Metrics()
        self.probe = Probe(temporal, self.volume, settings.task_queue)
        self.recent = RecentMessages()
        self.channel_events: dict[str, HttpEvents] = {}  #: by channel
        self.uploads = 0  #: bodies that are being taken in
        self._waiter = Waiter(temporal, self.volume)  # one for all tokens: each holds threads and kernel watches
        self.feeds = Feeds(self.volume, self._client(CHANNEL).events, self.stopping, self.metrics)
        self._clients: dict[tuple[str, frozenset[str]], SessionClient] = {}

    @property
    def data_dir(self) -> Path:
        return self.settings.data_dir

    def refusal(self, address: str, request_id: str, code: str, message: str) -> Problem:
        """The answer to somebody who has not shown who they are: one more failed attempt of that address."""
        wait = self.failures.note(address)
        log.warning("a request without a valid token was refused", address=address, request_id=request_id)
        if wait:
            headers = {"Retry-After": str(wait)}
            return Problem(429, "too_many_failures", "too many requests without a valid token", None, headers)
        return Problem(401, code, message, None, {"WWW-Authenticate": "Bearer"})

    def _client(self, principal: str) -> SessionClient:
        return SessionClient(self.temporal, self.settings, channel=CHANNEL, principal=principal, waiter=self._waiter)

    def client_of(self, access: Access) -> SessionClient:
        """The client that speaks for a token: its principal, and grants as far as its scopes go."""
        name = (access.principal, access.scopes)
        found = self._clients.pop(name, None)
        if found is None:
            found = self._client(access.principal)
            approves = (APPROVE_GRANT,) if access.may(APPROVE) else ()
            shell = (SHELL_GRANT,) if access.may(APPROVE) and access.may(SEND) else ()
            found.grants = (*approves, *shell)
        self._clients[name] = found
        while len(self._clients) > CLIENTS_KEPT:
            del self._clients[next(iter(self._clients))]
        return found

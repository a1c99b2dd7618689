"""What a channel is: a way in (`run`), a way out (`deliver`), and a self-test (`probe`).

A channel authenticates people, turns what they say into messages for `SessionClient.send`, and
acknowledges its own source only after that has returned. Replies come to `deliver`, from an activity on
the channel's own task queue, possibly more than once: post once, by the reply's id.

A file of this folder has `create(settings) -> Channel`, which opens nothing and never fails for want of settings.
One that needs settings has `configured(settings) -> str` beside it: empty, or what is missing and where to get it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from agent_session.client import SessionClient
from agent_session.domain.outbound import Outbound


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a channel can do; a process runs for those that receive."""

    receives: bool = False  #: has a source of its own, which `run` listens to
    delivers: bool = False  #: replies are pushed to it; then its worker must run for them to arrive
    streams: bool = False  #: shows an answer while it is being written
    files: bool = False  #: takes files in
    posts_files: bool = False  #: posts the files that the agent sends; elsewhere the words name them
    decides: bool = False  #: people can decide on tool calls there


class Channel(Protocol):
    """One file of this folder with `create(settings) -> Channel`."""

    name: str  #: also the first part of its reply addresses, `<name>:<place>`
    capabilities: Capabilities

    async def run(self, client: SessionClient) -> None:
        """Take messages in until cancelled, or until the source ends; an error ends in a new call, a little later.

        `client` has no grants. Who has authenticated people speaks for each with a client of its own:
        `SessionClient(client.temporal, client.settings, channel=…, principal=…)`, with `grants` set (I10)."""
        ...

    def check_place(self, place: str) -> None:
        """Errors: ValueError for a place that can never be posted to."""
        ...

    async def deliver(self, out: Outbound) -> None:
        """Post a reply, once per `out.reply`: look it up first, since an attempt may have died between
        posting and saying so. Errors: ValueError for a place that can never be posted to; any other is
        retried."""
        ...

    async def probe(self) -> str:
        """Empty when messages can come in and go out, tried for real; else what is wrong and what to do."""
        ...


class HttpEvents(Protocol):
    """What takes in one request of a channel's own service."""

    async def handle(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Check the signature, hand it to Temporal, and only then answer: status, and a body of JSON or none."""
        ...


@runtime_checkable
class TakesHttp(Protocol):
    """A channel whose service can post to the gateway, at `/channels/<name>/events`."""

    def http_events(self, client: SessionClient) -> HttpEvents:
        """Errors: ValueError where its settings do not allow it."""
        ...

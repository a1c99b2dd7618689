"""What a channel is: a way in (`run`), a way out (`deliver`), and a self-test (`probe`).

A channel authenticates people, turns what they say into messages for `SessionClient.send`, and
acknowledges its own source only after that has returned. Replies come to `deliver`, from an activity on
the channel's own task queue, possibly more than once: post once, by the reply's id.
"""

from typing import Protocol

from agent_session.client import SessionClient


class Channel(Protocol):
    """One file of this folder with `create(settings) -> Channel`."""

    name: str  #: also the first part of its reply addresses, `<name>:<place>`
    delivers: bool  #: whether replies are pushed to it; then its worker must run for them to arrive

    async def run(self, client: SessionClient) -> None:
        """Take messages in until cancelled, or until the source ends."""
        ...

    def check_place(self, place: str) -> None:
        """Errors: ValueError for a place that can never be posted to."""
        ...

    async def deliver(self, place: str, reply_id: str, text: str) -> None:
        """Post a reply, once per `reply_id`: look it up first, since an attempt may have died between
        posting and saying so. Errors: ValueError for a place that can never be posted to; any other is
        retried."""
        ...

    async def probe(self) -> str:
        """Empty when messages can come in and go out; else what is wrong and what to do."""
        ...

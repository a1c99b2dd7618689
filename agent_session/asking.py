"""Waiting for a reply where nobody sits to decide: a call that asks ends the wait instead of holding it up
for a day. The message stays accepted; the same id waits again."""

import asyncio
from contextlib import suppress

from temporalio.service import RPCError

from agent_session.client_types import Reply, SessionError
from agent_session.domain.cards import card
from agent_session.domain.status import WAITING_APPROVAL
from agent_session.remote.sessions import Sessions

LOOK_S = 1.0


class NeedsAPerson(SessionError):
    """A tool call waits for a person; the message says which, and how to decide."""


async def reply_unless_it_asks(client: Sessions, key: str, id: str, *, timeout_s: float) -> Reply:
    """As `await_reply`. Errors: NeedsAPerson, and those of `await_reply`."""
    calls: list[dict[str, str]] = []
    waiting = asyncio.create_task(client.await_reply(key, id, timeout_s=timeout_s))
    try:
        while not (await asyncio.wait({waiting}, timeout=LOOK_S))[0]:
            with suppress(RPCError, OSError):  # Temporal or the volume is away for a moment: the wait goes on
                status = await client.status(key)
                waits = status.state == WAITING_APPROVAL
                calls = client.waiting_calls(key, status) if waits else []
            if calls and not waiting.done():
                lines = [f"waits for a person: {card(call)}" for call in calls]
                lines += [f"  agent-session approvals allow {key} {call['call']}   (or deny)" for call in calls]
                raise NeedsAPerson("\n".join(lines))
        return waiting.result()
    finally:
        waiting.cancel()

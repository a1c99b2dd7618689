"""Calls that wait for a person, as a request of OpenAI's protocol meets them: they end it with words that say so,
and whoever decides in words (`/allow CODE`, `/deny CODE`) gets the rest of the turn's answer in the same request.
Decides nothing itself: the session does.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from temporalio.service import RPCError

from agent_session.client import NoSuchSession, SessionClient, SessionError
from agent_session.domain.cards import request_text
from agent_session.domain.commands import ALLOW, DENY, command_of
from agent_session.domain.messages import InboundMessage
from agent_session.domain.status import WAITING_APPROVAL
from agent_session.domain.turns import ASK
from agent_session.gateway.openai_bodies import Words
from agent_session.transcript.lines import ASSISTANT, ENDED, EVENT, TOOL, USER, calls_of
from agent_session.transcript.reader import backwards

LOOK_S, MOST_LOOK_S = 1.0, 5.0  #: between looks at the transcript
HOW_TO_DECIDE = (
    "Say it as the next message of session {key}, or decide with agent-session approvals. "
    "The turn goes on then; the same request again waits for its answer."
)
STATUS_EVERY = 6  #: looks: a worker may ask for a call that the transcript holds as one to run


@dataclass(frozen=True)
class WaitingTurn:
    """A turn that a person holds up."""

    id: str
    opener: str  #: scoped id of the message that opened it
    step: int
    asks: frozenset[str]  #: what it asks for, by digest


async def waiting_turn(client: SessionClient, key: str, words: Words) -> WaitingTurn | None:
    """The turn that these words decide on; None for other words, and where nothing waits."""
    command = None if words.files else command_of(InboundMessage(id="x", channel="x", text=words.text))
    if command is None or command[0] not in (ALLOW, DENY):
        return None
    with suppress(NoSuchSession):
        status = await client.status(key)
        asks = frozenset(tool.digest for tool in status.tools if tool.state == "asks")
        opener = await asyncio.to_thread(_opener_of, client, key, status.turn)
        if status.state == WAITING_APPROVAL and opener:
            return WaitingTurn(status.turn, opener, status.step, asks)
    return None


async def goes_on(client: SessionClient, key: str, turn: WaitingTurn) -> bool:
    """Whether something that it asked for has been decided."""
    status = await client.status(key)
    still = {tool.digest for tool in status.tools if tool.state == "asks"} if status.turn == turn.id else set[str]()
    return not turn.asks <= still


async def until_it_waits(client: SessionClient, key: str) -> tuple[str, str]:
    """Once a call has waited for a person at two looks: what waits and how to decide, and the turn. The transcript
    is looked at before the session is asked, as that costs Temporal nothing."""
    pause, before = LOOK_S, False
    for look in count(1):
        await asyncio.sleep(pause)
        with suppress(RPCError, OSError, SessionError):  # away for a moment: the next look tells
            if look % STATUS_EVERY and not await asyncio.to_thread(_may_ask, client, key):
                before, pause = False, min(pause * 2, MOST_LOOK_S)
                continue
            status = await client.status(key)
            waits = status.state == WAITING_APPROVAL
            calls = await asyncio.to_thread(client.waiting_calls, key, status) if waits else []
            if calls and before:
                return f"{request_text(calls, key)}\n{HOW_TO_DECIDE.format(key=key)}", status.turn
            before = bool(calls)
            pause = LOOK_S if before else min(pause * 2, MOST_LOOK_S)
    raise AssertionError("unreachable")


def _may_ask(client: SessionClient, key: str) -> bool:
    """Whether the transcript's last step holds a call to ask for that has no result."""
    done: set[str] = set()
    for line in backwards(client.volume, key):
        if line.get("role") == TOOL:
            done.add(str(line.get("call")))
        elif line.get("role") == ASSISTANT:
            return any(call.get("verdict") == ASK and call.get("id") not in done for call in calls_of(line))
        elif line.get("role") == EVENT and line.get("event") == ENDED:
            break
    return False


def _opener_of(client: SessionClient, key: str, turn: str) -> str:
    found = ""
    for line in backwards(client.volume, key):
        if line.get("turn") != turn:
            break
        if line.get("role") == USER:
            found = str(line.get("id"))
    return found

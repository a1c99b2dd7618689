"""Where a request of OpenAI's protocol goes, and under which id: so that a retry is the same message, and saying
the same thing again is a new one (I1).

A client that names the message itself (`Idempotency-Key`) is believed. Else the id is made of the session, the
number of messages, a hash of the last one, the half hour, and a number that counts how often just that was said;
the transcript knows how often. The rules are in docs/openai.md. Must not keep what only one process knows, but for
what was handed over whole: without that a retry still finds its message.
"""

import asyncio
import hashlib
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson

from agent_session.client import SessionClient
from agent_session.domain.commands import command_of
from agent_session.domain.ids import key_of_workflow, message_id, scoped_id, session_key, workflow_id
from agent_session.domain.messages import Attachment, InboundMessage
from agent_session.gateway.idempotency import refuse_another
from agent_session.gateway.openai_bodies import Words
from agent_session.gateway.route import Call
from agent_session.gateway.state import Gateway
from agent_session.transcript.lines import ENDED, EVENT, USER
from agent_session.transcript.reader import backwards
from agent_session.transcript.volume import Volume

BUCKET_S = 1_800  #: an id is looked for in this half hour and the one before
SKEW_S = 60  #: by which the clocks of gateways and workers may differ
SILENT_RETRY_S = 60  #: how long after an answer a client that tells no retries is taken to retry
SESSION_HEADER, ID_HEADER, RETRY_HEADER = "X-Session-Key", "Idempotency-Key", "X-Stainless-Retry-Count"


@dataclass(frozen=True)
class Place:
    """Where the message goes. `once`: a session of this one message, started by it."""

    key: str
    id: str
    scoped: str
    once: bool = False


@dataclass
class Heard:
    """What a transcript says of the last hour."""

    taken: dict[str, str] = field(default_factory=lambda: dict[str, str]())  #: message → its turn
    ended: dict[str, float] = field(default_factory=lambda: dict[str, float]())  #: turn → when


async def place_of(gateway: Gateway, call: Call, user: str | None, words: Words, after: str = "") -> Place:
    """Of a new message. `after`: what the client says that it follows, if its protocol has that. Errors:
    BadSessionKey, BadMessageId, VolumeUnavailable."""
    given = call.header(ID_HEADER)
    if given:
        message_id(given)
    named = call.header(SESSION_HEADER) or user or ""
    if not named:
        return await _place_of_its_own(gateway, call, words, given)
    key = session_key(call.access.key_for(session_key(named)))
    return await place_in(gateway, call, key, words, after)


async def place_in(gateway: Gateway, call: Call, key: str, words: Words, after: str = "") -> Place:
    """In a session that the token reaches. Errors: BadMessageId, VolumeUnavailable."""
    given = call.header(ID_HEADER)
    said = _digest(key, after, words)
    id = message_id(given) if given else await _derived_id(gateway, call, key, words, said)
    gateway.openai.said.note(said, id)
    place = Place(key, id, _scoped(call.client, id))
    if given:
        await _refuse_another(gateway, place, words)
    return place


async def _refuse_another(gateway: Gateway, place: Place, words: Words) -> None:
    files = [Attachment(one.ref, len(one.data), one.kind, one.name) for one in words.files]
    await refuse_another(gateway.recent, gateway.volume, place.key, place.scoped, words.text, files)


async def _place_of_its_own(gateway: Gateway, call: Call, words: Words, given: str) -> Place:
    """A session for this message alone, in the token's home. Two first attempts are two answers, as whoever asks
    the same question several times at once wants several; only what says that it is a retry is one."""
    said = _digest(call.access.name, given, words)
    if given:
        name, id = hashlib.sha256(given.encode()).hexdigest()[:24], given
    else:
        name = (await _run_before(gateway, call, said) if _retries(call) else "") or f"{said}-{uuid.uuid4().hex[:8]}"
        id = name
    gateway.openai.said.note(said, id)
    place = Place(f"{call.access.home}run/{name}", id, _scoped(call.client, id), once=True)
    if given:
        await _refuse_another(gateway, place, words)
    return place


async def _run_before(gateway: Gateway, call: Call, said: str) -> str:
    """The name of the newest session that this very message had: this process may remember it, Temporal does."""
    if remembered := gateway.openai.said.of(said):
        return remembered
    begins = workflow_id(f"{call.access.home}run/{said}-")
    since = datetime.fromtimestamp(time.time() - 2 * BUCKET_S, UTC).isoformat()
    query = f"WorkflowId STARTS_WITH '{begins}' AND StartTime > '{since}'"
    newest, name = 0.0, ""
    async for found in gateway.temporal.list_workflows(query, limit=100):
        if found.start_time.timestamp() >= newest:
            newest, name = found.start_time.timestamp(), key_of_workflow(found.id).rpartition("/")[2]
    return name


async def _derived_id(gateway: Gateway, call: Call, key: str, words: Words, said: str) -> str:
    retries = _retries(call)
    if command_of(InboundMessage(id="x", channel="x", text=words.text)) and not words.files:
        again = gateway.openai.said.of(said) if retries else None
        return again or uuid.uuid4().hex  # it has no line in the transcript, and is answered at once
    bucket = int(time.time() // BUCKET_S)
    since_s = (bucket - 1) * BUCKET_S - SKEW_S
    heard = await asyncio.to_thread(heard_since, gateway.volume, key, since_s)

    def name(of: int, number: int) -> str:
        return f"oa-{said}-{of:x}-{number}"

    def times(of: int) -> int:
        number = 0
        while _scoped(call.client, name(of, number)) in heard.taken:
            number += 1
        return number

    now, before = times(bucket), times(bucket - 1)
    last = name(bucket, now - 1) if now else name(bucket - 1, before - 1) if before else ""
    if last and _is_the_same(gateway, heard, _scoped(call.client, last), retries):
        return last
    return name(bucket, now)


def _is_the_same(gateway: Gateway, heard: Heard, scoped: str, retries: int | None) -> bool:
    """Whether what comes now is the message that was said before in the same words."""
    ended_s = heard.ended.get(heard.taken[scoped])
    if ended_s is None or retries:
        return True  # it is being worked on; or the client says so itself
    handed_over = gateway.openai.handed_over.of(scoped)
    if handed_over is not None:
        return not handed_over
    return retries is None and time.time() - ended_s < SILENT_RETRY_S


def heard_since(volume: Volume, key: str, since_s: float) -> Heard:
    """Messages that were taken in, and turns that ended, since then. Errors: VolumeUnavailable."""
    heard = Heard()
    for line in backwards(volume, key):
        at_s = _seconds(str(line.get("at", "")))
        if at_s < since_s:
            break
        if line.get("role") == USER:
            heard.taken[str(line.get("id"))] = str(line.get("turn"))
        elif line.get("role") == EVENT and line.get("event") == ENDED:
            heard.ended[str(line.get("turn"))] = at_s
    return heard


def _seconds(at: str) -> float:
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return time.time()  # a line without a time ends no search


def _retries(call: Call) -> int | None:
    """How often the client has tried before, where it says so, as OpenAI's own do."""
    said = call.header(RETRY_HEADER)
    return int(said) if said.isascii() and said.isdigit() else None


def _digest(where: str, after: str, words: Words) -> str:
    files = [[one.ref, one.name] for one in words.files]
    text = words.text.encode("utf-8", "replace").decode()
    return hashlib.sha256(orjson.dumps([where, after, words.count, text, files])).hexdigest()[:16]


def _scoped(client: SessionClient, id: str) -> str:
    return scoped_id(client.channel, client.principal, id)

"""One message said to a session, and its answer as it comes: what both of OpenAI's endpoints stand on.

Knows nothing of their shapes. Nobody who stops listening stops the turn.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from agent_session.client import Reply, ReplyPending, SessionClient, SessionIsLive
from agent_session.domain.replies import CANCELLED, FAILED, INTERRUPTED
from agent_session.gateway.errors import Problem
from agent_session.gateway.openai_bodies import Words
from agent_session.gateway.openai_decisions import goes_on, until_it_waits, waiting_turn
from agent_session.gateway.openai_names import Place
from agent_session.gateway.openai_shown import BETWEEN_STEPS, Shown
from agent_session.gateway.sessions import queue_full
from agent_session.gateway.state import Gateway
from agent_session.live.events import LiveEvent
from agent_session.transcript.lines import ASSISTANT
from agent_session.transcript.reader import backwards
from agent_session.transcript.volume import Volume

BEAT_S = 1.0
SEND_S = 5.0  #: a session that takes no message for so long is busy
HOLD_S, STREAM_S = 600.0, 86_400.0  #: how long one request waits; as long as OpenAI's clients do
LIVE_S = 1.0  #: how long the live bus is waited for
EVENTS = 2_000  #: that wait for a client who reads slowly; what comes then is left to the end
SHOULD_RETRY = "X-Should-Retry"  #: OpenAI's own clients obey it
UNKNOWN_MODEL = "agent-session"  #: as long as no model has answered


@dataclass(frozen=True)
class Beat:
    """Nothing new."""


@dataclass(frozen=True)
class Piece:
    """More of the answer."""

    text: str


@dataclass(frozen=True)
class Spent:
    """What the transcript says of a turn: tokens, the model that answered last, and its step."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    model: str = UNKNOWN_MODEL
    step: int = 0


@dataclass(frozen=True)
class Answer:
    """The whole of it. `waits`: it only says that a call waits for a person; the turn goes on behind it."""

    text: str
    spent: Spent = Spent()
    waits: bool = False


@dataclass(frozen=True)
class _Waits:
    text: str
    turn: str


async def answer_to(
    gateway: Gateway, client: SessionClient, place: Place, words: Words, *, live: bool
) -> AsyncGenerator[Beat | Piece | Answer]:
    """Say it, and yield its answer: with `live` in pieces as they come, and in any case whole at the end. A beat
    comes every second in which nothing else does.

    Errors: Problem 409, 429, 502 (how the turn ended), 503 (the gateway stops), 504; those of `SessionClient.send`.
    """
    heard: asyncio.Queue[object] = asyncio.Queue(EVENTS)
    waiting = await waiting_turn(client, place.key, words)
    hold_s = STREAM_S if live else HOLD_S
    shown, lead, early = Shown(place.scoped), "", list[LiveEvent]()
    async with _tasks() as start:
        if live:
            ready = asyncio.Event()
            watching = start(_watch(client, place.key, heard, ready))
            await asyncio.wait({watching, start(ready.wait())}, timeout=LIVE_S, return_when=asyncio.FIRST_COMPLETED)
        await _say(client, place, words)
        start(_await_reply(client, place.key, place.scoped, heard, hold_s))
        start(_look_for_waits(client, place.key, heard))
        start(_await_stop(gateway, heard))
        while True:
            item = await _next(heard)
            if isinstance(item, Beat):
                yield item
            elif isinstance(item, LiveEvent):
                if waiting is not None and item.step > waiting.step:
                    early.append(item)  # the turn may go on before the words about it are here
                elif text := shown.take(item):
                    yield Piece(text)
            elif isinstance(item, Reply) and waiting is not None and await goes_on(client, place.key, waiting):
                lead = f"{item.text}{BETWEEN_STEPS}"
                shown = Shown(waiting.opener, waiting.id, item.text)
                yield Piece(item.text + "".join(map(shown.take, early)))
                start(_await_reply(client, place.key, waiting.opener, heard, hold_s))
                waiting = None
            else:
                answer, rest = await _end_of(gateway, place, item, shown)
                if rest:
                    yield Piece(rest)
                yield replace(answer, text=lead + answer.text)
                return


async def _next(heard: asyncio.Queue[object]) -> object:
    """Errors: whatever a task has met."""
    try:
        async with asyncio.timeout(BEAT_S):
            item = await heard.get()
    except TimeoutError:
        return Beat()
    if isinstance(item, BaseException):
        raise item
    return item


async def _end_of(gateway: Gateway, place: Place, item: object, shown: Shown) -> tuple[Answer, str]:
    """The answer, and what of it a watcher has not been shown. Errors: Problem."""
    if isinstance(item, _Waits):
        spent = await asyncio.to_thread(spent_in, gateway.volume, place.key, item.turn)
        return Answer(item.text, spent, waits=True), shown.aside(item.text)
    assert isinstance(item, Reply)
    if not item.ok:
        raise problem_of_reply(item)
    turn = item.turn if item.n else ""  # what was answered beside the turns has no line
    spent = await asyncio.to_thread(spent_in, gateway.volume, place.key, turn)
    return Answer(item.text, spent), shown.end(spent.step, item.text)


def problem_of_reply(reply: Reply) -> Problem:
    """A turn that did not answer. OpenAI's clients try 409 and 502 again by themselves, which would only tell them
    the same: they are asked not to."""
    if full := queue_full(reply):
        return full
    final = {SHOULD_RETRY: "false"}
    if reply.outcome == CANCELLED:
        return Problem(409, "turn_cancelled", "the turn was cancelled; say it again to begin anew", headers=final)
    if reply.outcome == INTERRUPTED:
        return Problem(409, "turn_interrupted", "another message took this turn's place", headers=final)
    assert reply.outcome == FAILED
    return Problem(502, "turn_failed", reply.text, headers=final)


def spent_in(volume: Volume, key: str, turn: str) -> Spent:
    """Zeros for a turn without a model's answer. Errors: VolumeUnavailable."""
    found: list[dict[str, Any]] = []
    seen = False
    for line in backwards(volume, key) if turn else ():
        if line.get("turn") == turn:
            seen = True
            if line.get("role") == ASSISTANT:
                found.append(line)
        elif seen:
            break
    if not found:
        return Spent()
    usages: list[dict[str, int]] = [line.get("usage") or {} for line in found]

    def total(name: str) -> int:
        return sum(int(usage.get(name, 0)) for usage in usages)

    newest = found[0]
    return Spent(
        total("input_tokens"),
        total("output_tokens"),
        total("cached_tokens"),
        str(newest.get("model") or UNKNOWN_MODEL),
        int(newest.get("step", 0)),
    )


async def _say(client: SessionClient, place: Place, words: Words) -> None:
    files = [await client.attach(place.key, one.data, one.name, one.kind) for one in words.files]
    if not place.once:
        await client.send(place.key, words.text, id=place.id, attachments=files, timeout_s=SEND_S)
        return
    with suppress(SessionIsLive):  # a retry: it is being worked on
        await client.start_once(words.text, place.key, id=place.id, attachments=files)


async def _watch(client: SessionClient, key: str, heard: asyncio.Queue[object], ready: asyncio.Event) -> None:
    """Without the live bus, and once it is lost, the answer comes whole at the end."""
    with suppress(OSError):
        async for event in client.events(key, ready, replay=True):
            await heard.put(event)


async def _await_reply(
    client: SessionClient, key: str, scoped: str, heard: asyncio.Queue[object], hold_s: float
) -> None:
    try:
        await heard.put(await client.await_reply_to(key, scoped, timeout_s=hold_s))
    except ReplyPending:
        message = "the turn is still running; send the same request again to wait on"
        await heard.put(Problem(504, "still_running", message))
    except Exception as error:  # the request's own task raises it
        await heard.put(error)


async def _look_for_waits(client: SessionClient, key: str, heard: asyncio.Queue[object]) -> None:
    """A call that waits for a person ends the request: nobody may be there to decide for a day."""
    await heard.put(_Waits(*await until_it_waits(client, key)))


async def _await_stop(gateway: Gateway, heard: asyncio.Queue[object]) -> None:
    await gateway.stopping.wait()
    message = "the gateway is stopping; the turn goes on, send the same request again"
    await heard.put(Problem(503, "stopping", message, headers={"Retry-After": "2"}))


@asynccontextmanager
async def _tasks() -> AsyncGenerator[Any]:
    """Tasks that end with the block."""
    started: list[asyncio.Task[Any]] = []

    def start(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        started.append(asyncio.create_task(work))
        return started[-1]

    try:
        yield start
    finally:
        for task in started:
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)

"""Answers of running turns, shown in Slack while they are being written: status, then the words.

Never in the way: whatever fails here, the delivery of the reply is right without it. Shows only answers to messages
that came in through this process, learned from live events; the transcript and the deliveries are the truth.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field

import structlog
from slack_sdk.web.async_client import AsyncWebClient

from agent_session.client import SessionClient
from agent_session.live import events as E
from agent_session.live.events import LiveEvent
from agent_session.settings_channels import SlackSettings
from channels.slack.places import SlackPlace
from channels.slack.posting import Poster, check_host
from channels.slack.streaming_message import GrowingMessage, Switches
from channels.slack.streaming_text import THINKING, status_words

EXPECT_S = 900.0  #: how long a message may wait for its turn to begin and still be shown
SESSIONS = 200  #: watched at once; the answers of others come whole
MESSAGES = 100  #: of one session that wait for their turn
COME_AGAIN_S = 1.0  #: when the live bus was away
NOTHING_TO_SEE = 5  #: a bus that is away that often is given up, until the next message

log = structlog.get_logger("agent_session.slack")


@dataclass
class Watch:
    """One session that is being watched."""

    waiting: dict[str, tuple[SlackPlace, float]] = field(default_factory=dict[str, tuple[SlackPlace, float]])
    task: "asyncio.Task[None] | None" = None


class Streamer:
    """One object a process; `expect` names what to show, `run` shows it."""

    def __init__(self, web: AsyncWebClient, client: SessionClient, poster: Poster, settings: SlackSettings) -> None:
        check_host(web, settings)
        self._client, self._poster = client, poster
        self._watched: dict[str, Watch] = {}
        self._switches = Switches()
        self._news = asyncio.Event()
        self._end = False

    def expect(self, session: str, place: str, message_id: str) -> None:
        """A message was handed to the session; its answer will go to `place`. `message_id`: `Receipt.scoped`.
        Never waits, never fails."""
        try:
            where = SlackPlace.parse(place)
        except ValueError:
            return
        if session not in self._watched and len(self._watched) >= SESSIONS:
            return
        watch = self._watched.setdefault(session, Watch())
        if len(watch.waiting) >= MESSAGES:
            return
        watch.waiting[message_id] = (where, time.monotonic())
        self._news.set()

    async def run(self) -> None:
        """Show answers until cancelled."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                for session, watch in self._watched.items():
                    if watch.task is None:
                        watch.task = asyncio.create_task(self._follow(session, watch))
        finally:
            tasks = [watch.task for watch in self._watched.values() if watch.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, session: str, watch: Watch) -> None:
        """One session, as long as an answer is expected there."""
        away = 0
        try:
            while watch.waiting and away < NOTHING_TO_SEE:
                try:
                    await self._watch(session, watch)
                    away = 0
                except OSError:
                    away += 1
                _forget_old(watch)
                await asyncio.sleep(COME_AGAIN_S)
        except Exception:
            log.exception("answers cannot be shown while they are written", session=session)
        finally:
            if self._watched.get(session) is watch:
                del self._watched[session]

    async def _watch(self, session: str, watch: Watch) -> None:
        turn: _Turn | None = None
        events = self._client.events(session, replay=True)
        coming: asyncio.Task[LiveEvent] | None = None
        try:
            while watch.waiting or turn is not None:
                coming = coming or asyncio.ensure_future(anext(events))
                await asyncio.wait({coming}, timeout=EXPECT_S / 10)
                _forget_old(watch)
                if not coming.done():
                    continue
                event, coming = coming.result(), None
                turn = await self._take(session, watch, turn, event)
        except StopAsyncIteration:
            return
        finally:
            if coming is not None:
                coming.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration, OSError):
                    await coming
            await events.aclose()
            if turn is not None:
                await turn.leave()

    async def _take(self, session: str, watch: Watch, turn: "_Turn | None", event: LiveEvent) -> "_Turn | None":
        """What one event changes."""
        if event.kind == E.TURN_STARTED and event.call in watch.waiting:
            place, _ = watch.waiting.pop(event.call)
            if turn is not None and turn.id != event.turn:
                await turn.leave()
                turn = None
            if turn is None:
                message = GrowingMessage(self._poster, self._switches, session, place, event.turn)
                turn = _Turn(event.turn, message)
        elif turn is not None and event.turn == turn.id:
            turn.take(event)
            if event.kind == E.TURN_ENDED:
                await turn.end(event)
                return None
        return turn


def _forget_old(watch: Watch) -> None:
    oldest = time.monotonic() - EXPECT_S
    watch.waiting = {name: one for name, one in watch.waiting.items() if one[1] > oldest}


class _Turn:
    """One turn's answer, as its events bring it."""

    def __init__(self, id: str, message: GrowingMessage) -> None:
        self.id = id
        self._message = message
        self._steps: dict[int, str] = {}
        self._tools: dict[str, str] = {}
        self._task = asyncio.create_task(message.run())
        message.show(self._steps, THINKING)

    def take(self, event: LiveEvent) -> None:
        status = ""
        match event.kind:
            case E.STEP:
                self._tools.clear()
                status = THINKING
            case E.DELTA:
                self._steps[event.step] = self._steps.get(event.step, "") + event.text
            case E.RETRY:
                step = event.step or max(self._steps, default=0)
                self._steps.pop(step, None)
                status = status_words("trying again")
            case E.TOOL_STARTED:
                self._tools[event.call] = event.tool
            case E.TOOL_FINISHED:
                self._tools.pop(event.call, None)
                status = THINKING
            case E.APPROVAL:
                status = status_words("waiting for a decision")
            case _:
                return
        if self._tools and event.kind != E.APPROVAL:
            status = status_words("running", list(self._tools.values())[-1])
        self._message.show(self._steps, status)

    async def end(self, event: LiveEvent) -> None:
        """The reply itself is on its way as a delivery; one without words has none."""
        await self.leave()
        await self._message.end(without_reply=event.outcome == "answered" and not event.text)

    async def leave(self) -> None:
        """Show no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

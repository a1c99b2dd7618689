"""One session, followed: the live bus for what happens, its status each second while something runs, its
transcript for what was before and for ends that the bus never told.

Looks only; what a person types is `chat.py`'s.
"""

import asyncio
import contextlib
import time
from collections.abc import Generator

from temporalio.service import RPCError

from agent_session.client_types import NoSuchSession, SessionError
from agent_session.domain.status import IDLE, Status
from agent_session.live import events as E
from agent_session.remote.sessions import Sessions
from agent_session.terminal import recap
from agent_session.terminal.deciding import Decisions
from agent_session.terminal.face import Face
from agent_session.terminal.look import BOLD, Look
from agent_session.terminal.render import Renderer
from agent_session.terminal.status_line import Facts, clock
from agent_session.terminal.text import clean
from agent_session.terminal.view import View, name_of

POLL_S, RECONNECT_S, SETTLE_S, CARD_S = 1.0, 1.0, 0.1, 5.0
BUS_FIRST_S = 2.0  #: how long the bus is waited for before a message is sent, and before a reply is shown
FAULTS = (SessionError, ValueError, OSError, RPCError, TimeoutError)
CLOSED = "closed"
TELLS_OF_A_CHANGE = (E.TURN_STARTED, E.STEP, E.APPROVAL, E.TOOL_STARTED, E.TOOL_FINISHED, E.TURN_ENDED)


def let_cancel_through() -> None:
    """Errors: CancelledError, when this task is being cancelled: Temporal's SDK makes an RPCError of that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@contextlib.contextmanager
def passing_faults() -> Generator[None]:
    """For what is tried again."""
    try:
        yield
    except FAULTS:
        let_cancel_through()


class Followed:
    """What is known of a session right now."""

    def __init__(self, client: Sessions, face: Face, look: Look, renderer: Renderer, key: str) -> None:
        self._client, self._face, self._look = client, face, look
        self.key = key
        self.view = View(face, look, renderer, key)
        self.decisions = Decisions(client, self.view, key)
        self.status: Status | None = None
        self.wake = asyncio.Event()
        self.watching = asyncio.Event()  #: the bus is heard
        self._card_expected_until = 0.0
        self._bus_is_away = False
        self.awaited = 0  #: messages of this terminal that are not answered yet

    @property
    def busy(self) -> bool:
        """A turn runs, or will."""
        return bool(self.view.now.turn or self.awaited or self._says_it_works)

    @property
    def _says_it_works(self) -> bool:
        """By its status, unless that is older than what the bus has told."""
        status = self.status
        return status is not None and status.state not in (IDLE, CLOSED) and not self.view.is_over(status.turn)

    async def run(self) -> None:
        """Until cancelled."""
        with passing_faults():  # a volume that is away for a moment: the talk itself goes on
            await self._recall()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch())
            group.create_task(self._poll())

    async def _recall(self) -> None:
        """The last exchange, as a chat that is opened again begins with it."""
        last = await recap.last_exchange(self._client.backwards(self.key))
        if last is None:
            return
        for line in last.words:
            words = recap.cut(str(line.get("content", "")), recap.WORDS_LINES, "agent-session history")
            if line.get("channel") == self._client.channel and line.get("principal") == self._client.principal:
                self.view.echo(words)
            else:
                who = name_of(str(line.get("sender") or line.get("principal") or ""), str(line.get("channel", "")))
                self._face.write(self._look.paint(f"{who}: ", BOLD) + clean(words))
            self.view.knows(str(line.get("id")))
        if last.outcome:
            text = recap.cut(last.answer, recap.ANSWER_LINES, f"agent-session history {self.key}")
            self.view.end(last.turn, last.outcome, text)

    async def _watch(self) -> None:
        """The live bus, again and again; a session works without it."""
        while True:
            self.view.ask_again()
            try:
                async for event in self._client.events(self.key, self.watching, replay=True):
                    self.view.show(event)
                    if event.kind == E.APPROVAL and event.call not in self.decisions.desk.decided:
                        self._card_expected_until = time.monotonic() + CARD_S
                    if event.kind in TELLS_OF_A_CHANGE:
                        self.wake.set()
            except OSError:
                pass  # nobody serves live.sock: the service restarts, or Temporal is somewhere else
            self.watching, self._bus_is_away = asyncio.Event(), True
            await asyncio.sleep(RECONNECT_S)

    async def hears(self) -> None:
        """Wait for the bus, so that nothing of the next answer is missed; not where there is none."""
        deadline = time.monotonic() + BUS_FIRST_S
        while not self.watching.is_set() and not self._bus_is_away and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    async def _poll(self) -> None:
        """The session's own word, each second while something runs."""
        while True:
            self.wake.clear()
            with passing_faults():  # it is asked again
                await self.look()
                await self.decisions.look(self.status)
                await self._mend()
            self._face.refresh()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self.wake.wait()
                await asyncio.sleep(SETTLE_S)  # what woke us may not have reached the workflow yet

    def _pause_s(self) -> float | None:
        """Nothing is asked while nothing runs; a call that asks is looked for until the workflow knows of it."""
        soon = self._card_expected_until > time.monotonic() and not self.decisions.desk.open
        settled = self.status is None or self.status.state in (IDLE, CLOSED)
        return SETTLE_S if soon else POLL_S if self.busy or not settled else None

    async def look(self) -> None:
        """Ask the session for its status."""
        try:
            self.status = await self._client.status(self.key)
        except NoSuchSession:
            self.status = None

    async def _mend(self) -> None:
        """A turn whose end the bus never told of has ended all the same."""
        turn, status = self.view.now.turn, self.status
        if not turn or status is None or status.turn == turn or status.answered_by != "worker":
            return
        end = await recap.end_of(self._client.backwards(self.key), turn)
        if end is not None and self.view.now.turn == turn:
            self.view.end(turn, *end)

    def facts(self, sending: bool) -> Facts:
        """For the status line."""
        now, status = self.view.now, self.status
        tools = [(tool.tool, int(time.monotonic() - tool.began)) for tool in now.tools.values()]
        blind = not self.watching.is_set()  # the bus is quicker, but it may be away
        if blind and status is not None:
            tools = [(tool.tool, int(time.time() - tool.since_s)) for tool in status.tools if tool.state == "running"]
        return Facts(
            key=self.key,
            doing=self._doing(sending),
            tools=[] if self.decisions.desk.open else tools,
            step=now.step or (status.step if status and blind and self.busy else 0),
            queue=status.queue if status else 0,
            tokens=status.input_tokens + status.output_tokens if status else 0,
            cost_microusd=status.cost_microusd if status else 0,
            model=status.model if status else "",
        )

    def _doing(self, sending: bool) -> str:
        now, cards = self.view.now, list(self.decisions.desk.open.values())
        if cards:
            return f"waits for you: {cards[0].tool}"
        if now.turn:
            what = now.retry or ("answering" if now.streamed else "thinking")
            return f"{what} {clock(int(time.monotonic() - now.began))}"
        if self.status is not None and self._says_it_works:
            since = f" {clock(int(time.time()) - self.status.since_s)}" if self.status.since_s else ""
            return self.status.state + since
        return "working" if self.awaited or sending else "idle"

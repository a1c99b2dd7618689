"""One conversation at one terminal: what is typed becomes messages, commands and decisions.

Waits for nothing in the prompt's way: each message has a task of its own. Keeps nothing that matters: the
session does (I1).
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, cast

from temporalio.service import RPCError

from agent_session.client_types import Receipt
from agent_session.domain.cards import argument_lines, visible
from agent_session.domain.ids import session_key
from agent_session.domain.messages import COLLECT, STEER
from agent_session.remote.sessions import Sessions
from agent_session.terminal import commands as C
from agent_session.terminal import recap
from agent_session.terminal.face import Face
from agent_session.terminal.following import BUS_FIRST_S, FAULTS, RECONNECT_S, Followed, let_cancel_through
from agent_session.terminal.look import BOLD, DIM, RED, YELLOW, Look
from agent_session.terminal.render import Renderer
from agent_session.terminal.status_line import status_line
from agent_session.terminal.text import clean, seconds, shortened
from agent_session.terminal.view import Said

LEAVING_S = 10.0
TWICE_S = 1.5  #: two Ctrl-C within this leave
REPLY_TIMEOUT_S = 7 * 86_400
SESSIONS_SHOWN, STATES_SHOWN = 200, 20
Work = Coroutine[Any, Any, None]


class Chat:
    """What a `Face` talks to."""

    def __init__(
        self, client: Sessions, face: Face, look: Look, renderer: Renderer, key: str, attachments: Sequence[Path]
    ) -> None:
        self._client, self._face, self._look, self._renderer = client, face, look, renderer
        self._attachments = list(attachments)
        self._lines: asyncio.Queue[Work] = asyncio.Queue()
        self._taking = 0  # lines that were typed and not yet handed on
        self._replies: set[asyncio.Task[None]] = set()
        self._last_interrupt = -TWICE_S
        self._cancelling = False
        self._at = Followed(client, face, look, renderer, key)
        self._follower: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until the person leaves."""
        tasks = [asyncio.create_task(self._take_lines()), asyncio.create_task(self._follow())]
        try:
            await self._face.run(self)
            with contextlib.suppress(TimeoutError):  # what was typed before leaving is still sent
                async with asyncio.timeout(LEAVING_S):
                    await self._lines.join()
            goes_on = self.busy and not self._cancelling
        finally:
            for task in (*tasks, *self._replies):
                task.cancel()
            await asyncio.wait(tasks)
        if goes_on:
            self._at.view.say(f"the turn goes on; 'agent-session chat {self._at.key}' shows it", DIM)

    # ---- what the terminal asks

    @property
    def busy(self) -> bool:
        return self._at.busy or bool(self._taking)

    @property
    def idle(self) -> bool:
        return not self.busy or self._at.decisions.waits

    @property
    def prompt(self) -> str:
        return self._at.decisions.prompt or f"{self._at.key}> "

    def live(self, width: int, rows: int) -> Sequence[str]:
        return self._at.view.live(width, rows)

    def status(self, width: int) -> str:
        return status_line(self._at.facts(bool(self._taking)), width, self._look)

    # ---- what the person does

    def interrupted(self, had_text: bool) -> None:
        """Ctrl-C: stop the turn, or nothing but the line; twice leaves."""
        now, view, desk = time.monotonic(), self._at.view, self._at.decisions.desk
        if now - self._last_interrupt < TWICE_S and not had_text:  # who clears a line does not mean to leave
            self._face.leave()
            return
        self._last_interrupt = now
        if desk.reason_for is not None:
            desk.reason_for = None
        elif self.busy:
            view.say("  cancelling … (Ctrl-C again leaves)", DIM)
            self._cancelling = True
            self._hand_on(self._cancel())
        elif not had_text:
            view.say("  Ctrl-C again, or Ctrl-D, leaves", DIM)

    def typed(self, line: str, *, fresh_since: float) -> None:
        """Answers to what asks come first; anything else is a message or a command."""
        self._last_interrupt = -TWICE_S
        decided = self._at.decisions.take(line, fresh_since)
        if isinstance(decided, tuple):
            self._hand_on(self._at.decisions.decide(*decided))
        elif not decided:
            typed = C.parse(line)
            if typed.kind == C.QUIT:
                self._face.leave()
            elif typed.kind != C.NOTHING:
                self._hand_on(self._do(typed))
            else:
                self._at.decisions.show_again()
        self._face.refresh()

    def _hand_on(self, work: Work) -> None:
        self._taking += 1
        self._lines.put_nowait(work)

    async def _take_lines(self) -> None:
        """One line after the other, so that messages are sent in the order they were typed."""
        while True:
            work = await self._lines.get()
            try:
                await work
            except FAULTS as error:
                self._fault(error)
            finally:
                self._taking -= 1
                self._lines.task_done()
                self._at.wake.set()
                self._face.refresh()

    def _fault(self, error: BaseException) -> None:
        let_cancel_through()
        words = str(error) or type(error).__name__
        if isinstance(error, RPCError):
            words = f"Temporal does not answer ({words.splitlines()[0][:200]}); try again"
        self._at.view.say(f"error: {clean(words)}", RED)

    async def _do(self, typed: C.Typed) -> None:
        if typed.kind in (C.UNKNOWN, C.WRONG):
            self._at.view.say(f"  {visible(typed.text)}", YELLOW)
        elif typed.kind == C.HELP:
            self._at.view.say("\n".join(C.help_lines()))
        elif typed.kind == C.SESSIONS:
            await self._list_sessions()
        elif typed.kind == C.SWITCH:
            self._switch(session_key(typed.text))
        elif typed.kind == C.EXPAND:
            await self._expand(typed.number)
        elif typed.kind == C.ATTACH:
            self._attach(Path(typed.text).expanduser())
        else:
            await self._send(typed)

    # ---- sending

    async def _send(self, typed: C.Typed) -> None:
        at = self._at
        await at.hears()
        command, steers = typed.kind == C.SESSION, typed.kind == C.STEER and at.busy
        waits = at.busy and not command and not steers
        self._cancelling = False
        said, files = Said(typed.text, echoed=not waits), [] if command else self._attachments
        id = uuid.uuid4().hex
        if not waits:
            self._echo(typed, files, steers)
        if not command:
            at.view.mine[id] = said
        try:
            mode = STEER if steers else COLLECT
            receipt = await self._client.send(at.key, typed.text, id=id, mode=mode, attachments=files)
        except BaseException:
            at.view.mine.pop(id, None)
            raise
        if not command:
            self._attachments = []
        at.awaited += not command
        task = asyncio.create_task(self._await_reply(at, receipt, said, command))
        self._replies.add(task)
        task.add_done_callback(self._replies.discard)
        if waits:
            await self._say_its_place(at, said, len(files))

    def _echo(self, typed: C.Typed, files: Sequence[Path], steers: bool) -> None:
        """A terminal without a cursor has shown the line itself."""
        if steers:
            self._at.view.say(f"  steering: {clean(typed.text)}", DIM)
        elif self._face.streams_below:
            self._at.view.echo(typed.text)
        for path in files:
            self._at.view.say(f"  + {visible(path.name)}", DIM)

    async def _say_its_place(self, at: Followed, said: Said, files: int) -> None:
        await at.look()
        place = at.status.queue if at.status else 0
        if said.echoed:
            return  # its turn has begun meanwhile
        more = f" + {files} files" if files else ""
        at.view.say(f"  queued ({max(1, place)}): {shortened(said.text, self._renderer.width - 16)}{more}", DIM)

    async def _await_reply(self, at: Followed, receipt: Receipt, said: Said, command: bool) -> None:
        """The bus is quicker and shows more; where it is silent the reply itself is shown."""
        try:
            reply = await self._client.await_reply(receipt.session, receipt.id, timeout_s=REPLY_TIMEOUT_S)
            if command and (not reply.turn or reply.turn != at.view.now.turn):
                at.view.say(clean(reply.text))
                return
            deadline = time.monotonic() + BUS_FIRST_S
            while at.watching.is_set() and not at.view.is_over(reply.turn) and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            if at is not self._at:
                return  # another session is on the screen; the transcript has it
            at.view.mine.pop(receipt.id, None)
            if not said.echoed:
                at.view.echo(said.text)
            at.view.end(reply.turn, reply.outcome, reply.text, reply.error_id)
        except FAULTS as error:
            self._fault(error)
        finally:
            at.awaited -= not command
            at.wake.set()
            self._face.refresh()

    async def _cancel(self) -> None:
        """A message that was only just sent has no turn yet: look a few times."""
        for _ in range(20):
            if await self._client.cancel(self._at.key) or not self._at.busy:
                return
            await asyncio.sleep(0.1)

    def _attach(self, path: Path) -> None:
        if not path.is_file():
            raise ValueError(f"{path} is no file: nothing is attached")
        self._attachments.append(path)
        self._at.view.say(f"  + {visible(path.name)} goes with the next message", DIM)

    # ---- looking

    async def session_names(self) -> list[str]:
        try:
            return [row.key for row in await self._client.sessions(limit=SESSIONS_SHOWN)]
        except FAULTS:
            let_cancel_through()
            return []

    async def _list_sessions(self) -> None:
        rows = await self._client.sessions(limit=SESSIONS_SHOWN)
        states = await asyncio.gather(*(self._state_of(row.key) for row in rows[:STATES_SHOWN]))
        for row, state in zip(rows, [*states, *[""] * len(rows)], strict=False):
            needs = f" · needs a person: {row.needs}" if row.needs else ""
            mark = "*" if row.key == self._at.key else " "
            self._at.view.say(f"{mark} {visible(row.key)}{' · ' if state else ''}{state}{needs}")
        if not rows:
            self._at.view.say("  no sessions yet", DIM)

    async def _state_of(self, key: str) -> str:
        try:
            return (await self._client.status(key)).state
        except FAULTS:
            let_cancel_through()
            return ""

    async def _expand(self, number: int) -> None:
        view = self._at.view
        call = await recap.nth_last_call(self._client.backwards(self._at.key), number)
        if call is None:
            view.say("  there is no such tool call", YELLOW)
            return
        view.say(f"  ⚙ {visible(call.tool)}  {seconds(call.duration_s * 1000)}  {call.outcome}", BOLD)
        view.say("\n".join(f"    {line}" for line in argument_lines(call.args)))
        lines = self._renderer.diff(call.content).rstrip("\n").split("\n")
        left = len(lines) - recap.OUTPUT_LINES
        if left > 0:
            view.say(f"    … {left} lines before these: agent-session history {self._at.key}", DIM)
        bar = self._look.words("│")
        self._face.write("\n".join(f"  {bar} {line}" for line in lines[-recap.OUTPUT_LINES :]))

    # ---- which session

    def _switch(self, key: str) -> None:
        if self._at.view.now.turn:
            self._at.view.say(f"  {self._at.key} goes on by itself", DIM)
        self._at = Followed(self._client, self._face, self._look, self._renderer, key)
        if self._follower is not None:
            self._follower.cancel()

    async def _follow(self) -> None:
        """Follow the session that is talked to, and the next one after /switch."""
        while True:
            at = self._at
            self._follower = asyncio.create_task(at.run())
            try:
                await asyncio.wait({self._follower})
                if at is self._at:  # it broke: say why, and go on
                    self._fault(ValueError(f"the session is followed anew after {_cause(self._follower.exception())}"))
                    await asyncio.sleep(RECONNECT_S)
            finally:
                self._follower.cancel()
                await asyncio.wait({self._follower})


def _cause(error: BaseException | None) -> str:
    """What a task group broke on."""
    if isinstance(error, BaseExceptionGroup):
        return _cause(cast(BaseExceptionGroup[BaseException], error).exceptions[0])
    return f"{type(error).__name__}: {error}"

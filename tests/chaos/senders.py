"""The senders of a plan: they say what they are told, again under the same id until it is taken, and wait.

In each session two are programs (`SessionClient`), one speaks HTTP with the gateway, one writes in Slack, one is a
person with the command line. Each says its words one after another, at most two unanswered at a time; but the plan
has them send some at once, and some again after newer ones. Must not judge an answer: it is noted as it came.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from agent_session.client import NoSuchMessage, ReplyPending, SessionClient
from tests.chaos.over_http import NotTaken, OverHttp
from tests.chaos.over_slack import OverSlack
from tests.chaos.plan import CLI, HTTP, SENDERS, SLACK, Said
from tests.chaos.world import GATEWAY_TOKEN, World

UNANSWERED = 2  #: of one sender in one session
SEND_TRIES_S = 240.0
ASK_AGAIN_S = 0.3
GIVEN_UP_S = 0.004  #: about when a send is taken: nobody knows whether it was
CLI_AT_ONCE = 2
CLI_TIMEOUT_S = 60.0


class Senders:
    """All senders of a run."""

    def __init__(self, world: World, said: tuple[Said, ...], slack: OverSlack | None = None) -> None:
        self._world, self._slack = world, slack
        self._clients: dict[str, SessionClient] = {}
        self._commands = asyncio.Semaphore(CLI_AT_ONCE)
        self._by_sender: defaultdict[tuple[str, str], list[Said]] = defaultdict(list)
        for one in said:
            self._by_sender[one.session, one.sender].append(one)
        self.unanswered = {one.id for one in said}
        self._http = OverHttp(f"http://127.0.0.1:{world.gateway_port}", GATEWAY_TOKEN)

    async def run(self, began: float) -> None:
        """Until every message has its reply."""
        for name in SENDERS:
            self._clients[name] = await self._world.client(f"chaos-{name}")
        try:
            async with asyncio.TaskGroup() as group:
                for said in self._by_sender.values():
                    group.create_task(self._sender(began, sorted(said, key=lambda one: one.order)))
        finally:
            await self._http.close()

    async def _sender(self, began: float, said: list[Said]) -> None:
        room = asyncio.Semaphore(1 if said[0].sender in (CLI, SLACK) else UNANSWERED)
        before: Said | None = None
        async with asyncio.TaskGroup() as group:
            for together in _together(said):
                await asyncio.sleep(max(0.0, began + together[0].at_s - time.monotonic()))
                for _ in together:
                    await room.acquire()
                if together[0].sender == CLI:
                    group.create_task(self._by_command(together[0], room))
                    continue
                if together[0].sender == SLACK:
                    group.create_task(self._in_slack(together[0], room))
                    continue
                for one, taken in zip(together, await self._send_all(together), strict=True):
                    group.create_task(self._wait(one, room)) if taken else room.release()
                if before is not None and before.again == "old":
                    await self._send(before)
                before = together[-1]

    async def _send_all(self, together: list[Said]) -> list[bool]:
        """One message; or two at once; or the second while nobody knows of the first, and then that again."""
        if together[0].pair == "behind" and len(together) > 1:
            first, second = together
            self._note("tried", first)
            sending = asyncio.create_task(self._send_once(first))
            await asyncio.wait({sending}, timeout=GIVEN_UP_S)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            taken = await self._send(second)
            return [await self._send(first), taken]
        return await asyncio.gather(*map(self._send, together))

    async def _send(self, one: Said) -> bool:
        """Whether it was taken. The same id until then: nobody knows what became of a try that failed."""
        deadline = time.monotonic() + SEND_TRIES_S
        while time.monotonic() < deadline:
            self._note("tried", one)
            try:
                sends = [self._send_once(one) for _ in range(2 if one.again == "now" else 1)]
                await asyncio.gather(*sends)
                self._note("accepted", one)
                return True
            except Exception as error:
                self._note("error", one, error=f"{type(error).__name__}: {error}"[:300])
            await asyncio.sleep(ASK_AGAIN_S)
        return False

    async def _send_once(self, one: Said) -> None:
        if one.sender == HTTP:
            return await self._http.send(one)
        async with asyncio.timeout(20):
            await self._clients[one.sender].send(
                one.session, one.text, id=one.id, mode=one.mode, reply_address=one.place, timeout_s=15
            )

    async def _wait(self, one: Said, room: asyncio.Semaphore) -> None:
        try:
            await self._reply(one)
            self.unanswered.discard(one.id)
        finally:
            room.release()
        if one.again == "late" and await self._send(one):
            await asyncio.sleep(0.5)  # were it taken for new, its turn would begin now
            await self._reply(one)

    async def _reply(self, one: Said) -> None:
        """However long it takes."""
        while one.sender == HTTP:
            try:
                answer = await self._http.reply(one)
            except NotTaken as error:
                self._note("error", one, error=f"{error}"[:300])
                await asyncio.sleep(ASK_AGAIN_S)
                continue
            if answer is not None:
                known = {name: answer.get(name, "") for name in ("text", "turn", "n")}
                return self._note("reply", one, outcome=answer["status"], **known)
        while True:
            try:
                reply = await self._clients[one.sender].await_reply(one.session, one.id, timeout_s=60)
            except ReplyPending:
                continue
            except NoSuchMessage as error:
                self._note("reply", one, outcome="unknown", text=str(error), turn="", n=0)
                return
            except Exception as error:
                self._note("error", one, error=f"{type(error).__name__}: {error}"[:300])
                await asyncio.sleep(ASK_AGAIN_S)
                continue
            self._note("reply", one, outcome=reply.outcome, text=reply.text, turn=reply.turn, n=reply.n)
            return

    async def _in_slack(self, one: Said, room: asyncio.Semaphore) -> None:
        """Slack has it at once, and keeps it until the service has taken it."""
        try:
            assert self._slack is not None
            self._note("tried", one)
            self._slack.say(one)
            self._note("accepted", one)
            post = await self._slack.reply(one)
            text = post["text"]
            outcome = "interrupted" if text == "(interrupted)" else "failed" if text.startswith("Sorry") else "answered"
            self._note("reply", one, outcome=outcome, text=text, turn=post["reply"], n=0)
            self.unanswered.discard(one.id)
        finally:
            room.release()

    async def _by_command(self, one: Said, room: asyncio.Semaphore) -> None:
        """`agent-session send`, again under the same id until it is taken, then until it has printed a reply."""
        try:
            async with self._commands:
                await self._command_until(one, "--no-wait")
                self._note("accepted", one)
                reply = await self._command_until(one)
            known = {name: reply.get(name, "") for name in ("outcome", "text", "turn", "n")}
            self._note("reply", one, **known)
            self.unanswered.discard(one.id)
        finally:
            room.release()

    async def _command_until(self, one: Said, *more: str) -> dict[str, Any]:
        """What it has printed, once it has printed anything."""
        while True:
            self._note("tried", one)
            code, out, errors = await self._command(one, *more)
            try:
                printed: dict[str, Any] = json.loads(out)
                return printed
            except ValueError:
                self._note("error", one, error=f"exit {code}: {errors[-300:]}")
            await asyncio.sleep(ASK_AGAIN_S)

    async def _command(self, one: Said, *more: str) -> tuple[int, str, str]:
        options = ["--id", one.id, "--mode", one.mode, "--json", "--timeout", str(CLI_TIMEOUT_S - 10), *more]
        options += ["--reply-to", one.place] if one.place else []
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent_session", "send", one.session, one.text, *options,
            env=self._world.environment(), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, errors = await asyncio.wait_for(process.communicate(), CLI_TIMEOUT_S)
        except (TimeoutError, asyncio.CancelledError) as error:
            process.kill()
            await process.wait()
            if isinstance(error, TimeoutError):
                return -1, "", "killed: took too long"
            raise
        return process.returncode or 0, out.decode(), errors.decode()

    def _note(self, what: str, one: Said, **more: Any) -> None:
        self._world.evidence.note("messages", what=what, id=one.id, **more)


def _together(said: list[Said]) -> Iterator[list[Said]]:
    """One after another, but for the pairs."""
    left = list(said)
    while left:
        count = 2 if left[0].pair else 1
        yield left[:count]
        del left[:count]

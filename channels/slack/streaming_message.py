"""One message that grows: through Slack's streaming API in direct messages, else by edits, at most one a second.

It is the first message of the turn's reply: the journal of the reply says that it was begun, before it is, and by
whom, so that one process shows an answer and the delivery finishes that very message. In a channel Slack streams to
one person only, and the others would see nothing grow: there it is edits.
"""

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import Any

import structlog

from channels.slack.outbox import EDITS, NATIVE, Held, Journal, digest
from channels.slack.places import SlackPlace
from channels.slack.posting import QUIET, Poster, journal_of, metadata_of, where_in
from channels.slack.posting_calls import Limited, Never, NotDone, Unreached, Unsure
from channels.slack.streaming_text import THINKING, beginning, first_part, settled, streamed, with_status

BEGIN_AFTER_S = 0.7  #: an answer that is there sooner comes whole
EVERY_S = 1.1  #: between two changes of one message: Slack takes some fifty edits a minute
CALL_S = 5.0
OFF_S = 600.0  #: how long what Slack refused is not asked for again
STREAMS, STATUS = "streams", "status"
LIMITED_S = 5.0
HELD_S = 1.0  #: a delivery that holds the reply goes first

log = structlog.get_logger("agent_session.slack")


class Switches:
    """What this workspace turned out not to have. One a process; after a while it is tried again."""

    def __init__(self) -> None:
        self._off: dict[str, float] = {}

    def off(self, what: str) -> None:
        self._off[what] = time.monotonic() + OFF_S

    def is_off(self, what: str) -> bool:
        return self._off.get(what, 0.0) > time.monotonic()


class GrowingMessage:
    """The answer of one turn, in one place."""

    def __init__(self, poster: Poster, switches: Switches, session: str, place: SlackPlace, turn: str) -> None:
        self._calls, self._outbox, self._switches = poster.calls, poster.outbox, switches
        self._session, self._place, self._turn = session, place, turn
        self._name = journal_of(session, place.text, turn)
        self._me = uuid.uuid4().hex
        self._steps: dict[int, str] = {}
        self._status = ""
        self._changed = asyncio.Event()
        self._over = False  #: nothing more is shown: it failed, or somebody else does it
        self._limited = False  #: Slack wants fewer calls
        self._how, self._shown, self._said = "", "", ""  #: what stands there; the status that was set

    def show(self, steps: Mapping[int, str], status: str) -> None:
        """What the answer looks like now: each step's words, and what is being done."""
        self._steps, self._status = dict(steps), status
        self._changed.set()

    async def run(self) -> None:
        """Keep the message up to date until cancelled. A cancel waits for the call that is under way."""
        began = time.monotonic()
        while not self._over:
            await self._changed.wait()
            self._changed.clear()
            call = asyncio.ensure_future(self._update(time.monotonic() - began >= BEGIN_AFTER_S))
            try:
                await asyncio.shield(call)
            except asyncio.CancelledError:
                await asyncio.wait({call})
                raise
            await asyncio.sleep(LIMITED_S if self._limited else EVERY_S if self._how else BEGIN_AFTER_S)
            if not self._how and (self._steps or self._status):
                self._changed.set()

    async def end(self, *, without_reply: bool) -> None:
        """The turn is over. Its delivery finishes the message; `without_reply`: there will be none."""
        self._over = True
        try:
            if without_reply and self._how == NATIVE:
                await self._stop()
            if self._said:
                await self._set_status("")
        except (NotDone, Unsure, Never, Held, OSError) as error:
            log.debug("a message was left as it is", error=str(error))

    async def _update(self, may_begin: bool) -> None:
        self._limited = False
        try:
            if self._place.is_direct and self._place.thread and self._status != self._said:
                await self._set_status(self._status)
            if may_begin:
                await self._grow()
        except (Limited, Held) as error:
            self._limited = isinstance(error, Limited)
            self._changed.set()  # a little later
        except (NotDone, Unsure, Never, OSError) as error:
            self._over = True
            log.info("an answer is not shown while it is written", turn=self._turn, error=str(error)[:300])

    async def _grow(self) -> None:
        text = self._text(NATIVE if self._may_stream() else EDITS)
        if not text or text == self._shown:
            return
        async with self._outbox.held(self._name, HELD_S) as journal:
            progress = journal.progress
            mine = progress.shown is not None and progress.shown.by == self._me
            if progress.finishing or progress.done or not (mine or progress.is_untouched):
                self._over = True  # the delivery is at it, or another process shows this answer
            elif not mine:
                await self._begin(journal)
            elif progress.shown is not None:
                await self._go_on(journal, progress.shown.ts)

    def _may_stream(self) -> bool:
        if self._how:
            return self._how == NATIVE
        return self._place.is_direct and self._place.thread != "" and not self._switches.is_off(STREAMS)

    def _text(self, how: str) -> str:
        """What should stand there. A stream only grows: words of all steps; edits show those of the last one."""
        if how == NATIVE:
            whole = "\n\n".join(text for _, text in sorted(self._steps.items()) if text.strip())
            return streamed(settled(first_part(whole)))
        last = self._steps[max(self._steps)] if self._steps else ""
        return with_status(last, "" if self._status == THINKING else self._status)

    async def _begin(self, journal: Journal) -> None:
        if self._may_stream():
            text = self._text(NATIVE)
            await self._note(journal, NATIVE, text)
            try:
                given = {"channel": self._place.channel, "thread_ts": self._place.thread, "markdown_text": text}
                answer = await self._call("chat_startStream", **given)
            except (NotDone, Never) as refusal:
                await journal.add(**{"not": "show"})
                if isinstance(refusal, Limited | Unreached):
                    raise
                self._switches.off(STREAMS)
                log.info("this workspace does not stream: answers are shown by edits", error=str(refusal)[:300])
            else:
                await journal.add(did="show", ts=str(answer["ts"]))
                await journal.add(do="send", sent=len(text), sum=digest(text))
                await journal.add(did="send")
                self._how, self._shown = NATIVE, text
                return
        text = self._text(EDITS)
        await self._note(journal, EDITS, text)
        metadata = metadata_of(self._session, self._turn, 1)
        try:
            answer = await self._call(
                "chat_postMessage", **where_in(self._place), text=text, metadata=metadata, **QUIET
            )
        except (NotDone, Never):
            await journal.add(**{"not": "show"})
            raise
        await journal.add(did="show", ts=str(answer["ts"]))
        self._how, self._shown = EDITS, text

    async def _note(self, journal: Journal, how: str, text: str) -> None:
        await journal.add(do="show", by=self._me, how=how, at=time.time(), begun=beginning(text))

    async def _go_on(self, journal: Journal, ts: str) -> None:
        text = self._text(self._how)
        where = {"channel": self._place.channel, "ts": ts}
        if self._how == EDITS:
            await self._call("chat_update", **where, text=text, link_names=False, parse="none")
        elif text.startswith(self._shown):
            await journal.add(do="send", sent=len(text), sum=digest(text))
            await self._call("chat_appendStream", **where, markdown_text=text[len(self._shown) :])
            await journal.add(did="send")
        else:
            self._over = True  # what was said was taken back: the delivery puts it right
            return
        self._shown = text

    async def _stop(self) -> None:
        async with self._outbox.held(self._name, HELD_S) as journal:
            shown = journal.progress.shown
            if shown is not None and shown.ts and not journal.progress.finishing:
                metadata = metadata_of(self._session, self._turn, 1)
                where = {"channel": self._place.channel, "ts": shown.ts}
                await self._call("chat_stopStream", **where, metadata=metadata)

    async def _set_status(self, status: str) -> None:
        """As an assistant's thread shows it; Slack takes it away when a message comes."""
        if self._switches.is_off(STATUS + self._place.channel):
            return
        where = {"channel_id": self._place.channel, "thread_ts": self._place.thread}
        try:
            await self._call("assistant_threads_setStatus", **where, status=status)
            self._said = status
        except Limited:
            return
        except (NotDone, Never):
            self._switches.off(STATUS + self._place.channel)

    async def _call(self, method: str, **given: Any) -> dict[str, Any]:
        return await self._calls.do(method, time.monotonic() + CALL_S, **given)

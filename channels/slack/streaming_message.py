"""One message that grows: through Slack's streaming API in direct messages, else by edits, at most one a second.

It is the first message of the turn's reply: the journal of the reply says that it was begun, before it is, and by
whom, so that one process shows an answer and the delivery finishes that very message. In a channel Slack streams to
one person only, and the others would see nothing grow: there it is edits. A message begins with words: what is being
done before them is said by Slack's own status, since an edit notifies nobody.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

import structlog

from channels.slack.mrkdwn import to_mrkdwn
from channels.slack.outbox import EDITS, NATIVE, Held, Journal, digest
from channels.slack.places import SlackPlace
from channels.slack.posting import QUIET, Poster, journal_of, where_in
from channels.slack.posting_calls import Limited, Never, NotDone, Unreached, Unsure
from channels.slack.posting_lookup import metadata_of
from channels.slack.streaming_text import THINKING, beginning, first_part, settled, streamed, with_status

BEGIN_AFTER_S = 0.7  #: an answer that is there sooner comes whole
EVERY_S = 1.1  #: between two changes of one message: Slack takes some fifty edits a minute
CALL_S = 5.0
LAST_S = 20.0  #: for the end of a message that no delivery finishes
STATUS_S = 90.0  #: Slack takes a status away after two minutes
ENDED = "message_not_in_streaming_state"  #: Slack ends a stream after some five minutes
OFF_S = 600.0  #: how long what Slack refused is not asked for again
STREAMS, STATUS = "streams", "status"
LIMITED_S = 5.0
HELD_S = 1.0  #: a delivery that holds the reply goes first
Call = Callable[..., Awaitable[dict[str, Any]]]

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
        self._rich = False  #: Slack takes edits of it as Markdown only
        self._limited = False  #: Slack wants fewer calls
        self._how, self._shown = "", ""  #: what stands there
        self._said, self._said_at = "", 0.0  #: the status that was set

    def show(self, steps: Mapping[int, str], status: str) -> None:
        """What the answer looks like now: each step's words, and what is being done."""
        self._steps, self._status = dict(steps), status
        self._changed.set()

    async def run(self) -> None:
        """Keep the message up to date until cancelled. A cancel waits for the call that is under way."""
        began = time.monotonic()
        while not self._over:
            await self._news()
            self._changed.clear()
            self._limited = False
            await self._whole(self._show_status())
            if time.monotonic() - began >= BEGIN_AFTER_S and self._is_behind():
                if method := self._method():
                    await self._calls.slot(method)
                await self._whole(self._grow())
            await asyncio.sleep(LIMITED_S if self._limited else EVERY_S if self._how else BEGIN_AFTER_S)
            if not self._how and self._steps:
                self._changed.set()

    async def end(self, *, without_reply: bool) -> None:
        """The turn is over. Its delivery finishes the message; `without_reply`: there will be none."""
        self._over = True
        try:
            if without_reply and self._how:
                await self._close()
            if self._said:
                await self._set_status("")
        except (NotDone, Unsure, Never, Held, OSError) as error:
            log.info("a message was left as it is", turn=self._turn, error=str(error)[:300])

    async def _news(self) -> None:
        """Until something changed, or Slack is about to take the status away."""
        left = max(self._said_at + STATUS_S - time.monotonic(), 0.0) if self._said else None
        with suppress(TimeoutError):
            async with asyncio.timeout(left):
                await self._changed.wait()

    async def _whole(self, work: Coroutine[Any, Any, None]) -> None:
        """A cancel waits for it: what Slack did with a call that is cut off would be unknown."""
        call = asyncio.ensure_future(self._tolerant(work))
        try:
            await asyncio.shield(call)
        except asyncio.CancelledError:
            await asyncio.wait({call})
            raise

    async def _tolerant(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except (Limited, Held) as error:
            self._limited = isinstance(error, Limited)
            self._changed.set()  # a little later
        except (NotDone, Unsure, Never, OSError) as error:
            self._over = True
            log.info("an answer is not shown while it is written", turn=self._turn, error=str(error)[:300])

    async def _show_status(self) -> None:
        stale = self._said != "" and time.monotonic() - self._said_at >= STATUS_S
        if stale or self._status != self._said:
            await self._set_status(self._status)

    def _is_behind(self) -> bool:
        text = self._text(NATIVE if self._may_stream() else EDITS)
        return text not in ("", self._shown)

    def _method(self) -> str:
        """What brings the next words, where Slack takes only so many of it."""
        if not self._how:
            return "chat_startStream" if self._may_stream() else ""
        return "chat_appendStream" if self._how == NATIVE else "chat_update"

    async def _grow(self) -> None:
        if not self._is_behind():
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
        """What should stand there, empty where nothing may begin yet. A stream only grows: words of all steps; edits
        show those of the last one, and what is being done, where Slack shows no status."""
        if how == NATIVE:
            whole = "\n\n".join(text for _, text in sorted(self._steps.items()) if text.strip())
            return streamed(settled(first_part(whole)))
        words = self._last_words()
        doing = "" if self._has_status() or self._status == THINKING else self._status
        return with_status(words, doing) if words.strip() or self._how else ""

    def _last_words(self) -> str:
        """As mrkdwn, or as Markdown where Slack takes nothing else."""
        last = first_part(self._steps[max(self._steps)]) if self._steps else ""
        return streamed(last) if self._rich else to_mrkdwn(last)

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
            text = await self._edit(where, lambda: self._text(EDITS), self._call)
        elif text.startswith(self._shown):
            await journal.add(do="send", sent=len(text), sum=digest(text))
            try:
                await self._call("chat_appendStream", **where, markdown_text=text[len(self._shown) :])
            except NotDone as refusal:
                if refusal.code != ENDED:
                    raise
                self._how, self._shown = EDITS, ""
                self._changed.set()
                return
            await journal.add(did="send")
        else:
            self._over = True  # what was said was taken back: the delivery puts it right
            return
        self._shown = text

    async def _edit(self, where: dict[str, str], words: Callable[[], str], call: Call) -> str:
        """Returns what stands there then."""
        if not self._rich:
            text = words()
            try:
                await call("chat_update", **where, text=text, link_names=False, parse="none")
                return text
            except NotDone as refusal:
                if refusal.code != "block_mismatch":
                    raise
                self._rich = True  # what was streamed is rich text for good
        text = words()
        await call("chat_update", **where, markdown_text=text)
        return text

    async def _close(self) -> None:
        """The turn ended without words: nothing of it goes on, and no status stays behind."""
        async with self._outbox.held(self._name, HELD_S) as journal:
            shown = journal.progress.shown
            if shown is None or not shown.ts or journal.progress.finishing:
                return
            where = {"channel": self._place.channel, "ts": shown.ts}
            if self._how == NATIVE:
                metadata = metadata_of(self._session, self._turn, 1)
                await self._last_call("chat_stopStream", **where, metadata=metadata)
                return
            words = self._last_words().rstrip()
            if not words:
                await self._last_call("chat_delete", **where)
                await journal.add(**{"not": "show"})
            elif words != self._shown:
                await self._edit(where, lambda: self._last_words().rstrip(), self._last_call)

    def _has_status(self) -> bool:
        """Whether Slack shows there what is being done."""
        return self._place.thread != "" and not self._switches.is_off(STATUS + self._place.channel)

    async def _set_status(self, status: str) -> None:
        """Slack takes it away when a message comes."""
        if not self._has_status():
            self._said = ""
            return
        where = {"channel_id": self._place.channel, "thread_ts": self._place.thread}
        try:
            await self._call("assistant_threads_setStatus", **where, status=status)
            self._said, self._said_at = status, time.monotonic()
        except Limited:
            raise
        except (Unreached, Unsure):
            self._said_at = time.monotonic()  # with the next change, or a while later
        except (NotDone, Never):
            self._switches.off(STATUS + self._place.channel)
            self._said = ""
            self._changed.set()  # the message says it instead

    async def _call(self, method: str, **given: Any) -> dict[str, Any]:
        return await self._calls.perhaps(method, time.monotonic() + CALL_S, **given)

    async def _last_call(self, method: str, **given: Any) -> dict[str, Any]:
        """What nobody makes good when it is left out."""
        return await self._calls.do(method, time.monotonic() + LAST_S, **given)

"""An answer that is shown while it is written, and how its message becomes the reply.

It is finished where it stands, as long as people see it become the reply: where other words of ours stand below it by
now, or it is old, it is taken away, and the reply is posted anew.
"""

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from channels.slack.outbox import NATIVE, Journal, Shown, digest
from channels.slack.places import SlackPlace
from channels.slack.posting_calls import Calls, Limited, Never, NotDone, Unreached, Unsure
from channels.slack.posting_lookup import Lookup, has, is_of
from channels.slack.posting_parts import Part
from channels.slack.streaming_text import is_begun_with, streamed

ASK_S = 2.0  #: for the question whether an answer that is shown is followed: a limit on it may not cost the attempt
OLD_S = 60.0  #: after that an answer that is shown is posted anew: an edit notifies nobody
#: what was shown cannot become the reply: it is posted anew
GONE = ("message_not_found", "cant_update_message", "edit_window_closed", "message_not_owned_by_app", "msg_too_long")


@dataclass(frozen=True)
class ShownAnswer:
    """The message that shows the answer, for one attempt to deliver the reply. Errors of all methods: those of
    `Calls.do` that another attempt may mend."""

    calls: Calls
    lookup: Lookup
    place: SlackPlace
    journal: Journal
    shown: Shown
    metadata: dict[str, Any]  #: of the reply's first part
    deadline: float  #: of the attempt, as `time.monotonic` counts

    async def find(self) -> str:
        """Its ts; empty when there is none. Slack takes no metadata where a stream starts: one whose streamer died
        before it knew its ts is ours, has no metadata, and begins as it did."""
        if self.shown.ts:
            return self.shown.ts
        await self.lookup.settle(self.shown.at, self.deadline)
        me = await self.calls.me(self.deadline)

        def is_it(message: dict[str, Any]) -> bool:
            if has(message, self.metadata):
                return True
            begins = is_begun_with(str(message.get("text", "")), self.shown.begun)
            return self.shown.how == NATIVE and is_of(message, me) and not message.get("metadata") and begins

        found = await self.lookup.find(self.place, self.shown.at, is_it, self.deadline)
        await self.journal.add(**({"did": "show", "ts": found} if found else {"not": "show"}))
        return found

    async def becomes(self, ts: str, part: Part) -> bool:
        """Whether it is the reply itself now. Where it has gone, the journal says so: no later attempt looks for it.
        One that Slack keeps stays known, since it may carry the reply's metadata."""
        if self.shown.leaving or await self._is_missed(ts):
            if not self.shown.leaving:
                await self.journal.add(do="remove")
            if await self._remove(ts):
                await self.journal.add(**{"not": "show"})
                return False
        return await self._finish(ts, part)

    async def _is_missed(self, ts: str) -> bool:
        """Whether people would not see it become the reply."""
        if time.time() - self.shown.at > OLD_S:
            return True
        deadline = min(self.deadline, time.monotonic() + ASK_S)
        try:
            me = await self.calls.me(deadline)
            return await self.lookup.is_followed(self.place, ts, lambda one: is_of(one, me), deadline)
        except Limited:
            return False  # the answer is worth more than its place
        except (NotDone, Never, Unsure):
            return True  # unknown: posted anew the order is right in any case

    async def _finish(self, ts: str, part: Part) -> bool:
        """Make it the reply itself. False: it is not there any more."""
        if self.shown.how == NATIVE and await self._stop(ts, part):
            return True
        new: dict[str, Any] = {"text": part.text, "link_names": False, "parse": "none"}
        try:
            await self._update(ts, **new)
        except (NotDone, Never) as refusal:
            if refusal.code == "block_mismatch":  # what was streamed stays what Slack calls rich text
                await self._update(ts, markdown_text=streamed(part.markdown))
                return True
            if refusal.code not in GONE:
                raise
            if refusal.code == "message_not_found" or await self._remove(ts):
                await self.journal.add(**{"not": "show"})  # else it stays as it is, above the reply
            return False
        return True

    async def _update(self, ts: str, **new: Any) -> None:
        channel = self.place.channel
        await self.calls.do("chat_update", self.deadline, channel=channel, ts=ts, metadata=self.metadata, **new)

    async def _stop(self, ts: str, part: Part) -> bool:
        """End the stream; true when the message then has the final words."""
        final, sent = streamed(part.markdown), self.shown.sent
        begun = sent and self.shown.sure and digest(final[:sent]) == self.shown.sum
        rest = {"markdown_text": final[sent:]} if begun and final[sent:] else {}
        try:
            await self._end_stream(ts, **rest, metadata=self.metadata)
        except (NotDone, Never):
            return False  # Slack ends streams by itself, or an attempt before did; an open one refuses the edit
        return bool(begun)

    async def _end_stream(self, ts: str, **given: Any) -> None:
        await self.calls.do("chat_stopStream", self.deadline, channel=self.place.channel, ts=ts, **given)

    async def _remove(self, ts: str) -> bool:
        """False: Slack does not let us."""
        if self.shown.how == NATIVE:
            with suppress(NotDone, Never):  # it has ended already
                await self._end_stream(ts)
        try:
            await self.calls.do("chat_delete", self.deadline, channel=self.place.channel, ts=ts)
        except (Limited, Unreached):
            raise
        except (NotDone, Never) as refusal:
            return refusal.code == "message_not_found"  # an attempt before has done it, or a person
        return True

"""Files into Slack, in one message after the words they go with, once as people see it.

A file is uploaded first, which nobody sees; its id is in the journal before it is posted. An attempt that finds the
posting begun looks for that id in the place, and posts the same ids again only where they do not stand. What Slack
will not take, or what does not get there in some attempts, holds up nobody: it is named in words instead.
"""

import asyncio
import time
from typing import Any, cast

import aiohttp

from agent_session.domain.messages import Attachment
from agent_session.domain.outbound import Outbound
from agent_session.transcript import spool
from agent_session.transcript.volume import Volume
from channels.slack.files import may_have_token
from channels.slack.outbox import SHARING, Journal
from channels.slack.places import SlackPlace
from channels.slack.posting_calls import Calls, Never, NotDone
from channels.slack.posting_lookup import Lookup

TRIES = 5  #: uploads of one file
SLOWER = 3.0  #: Slack works on files before it shows them
GONE = "file_not_found"  #: Slack forgets what was uploaded and not posted
#: what no other attempt mends
LASTING = {
    "missing_scope": "the app lacks the scope files:write",
    "file_uploads_disabled": "the workspace takes no files",
    "file_uploads_except_images_disabled": "the workspace takes no files but images",
    "file_type_not_allowed": "the workspace does not take this kind of file",
    "file_upload_size_restricted": "it is too large for the workspace",
    "storage_limit_reached": "the workspace has no room left",
}


class NotUploaded(Exception):
    """The file did not get there; another attempt may succeed."""


class Sharing:
    """One object a process."""

    def __init__(self, calls: Calls, lookup: Lookup, volume: Volume, api_url: str) -> None:
        self._calls, self._lookup, self._volume, self._api_url = calls, lookup, volume, api_url

    async def share(self, out: Outbound, place: SlackPlace, journal: Journal, deadline: float) -> str:
        """Post what is missing of `out.files`. Returns words on what will not be posted, for the place. Errors: those
        of `Calls.do`, NotUploaded: call again."""
        for number, file in enumerate(out.files, 1):
            if not journal.progress.shared and number not in journal.progress.files | journal.progress.refused:
                await self._upload(out.session, number, file, journal, deadline)
        if journal.progress.files and not journal.progress.shared:
            await self._post(out, place, journal, deadline)
        named = ((out.files[number - 1].name, why) for number, why in sorted(journal.progress.refused.items()))
        return "\n".join(f"{name} could not be posted here: {why}." for name, why in named)

    async def _upload(self, session: str, number: int, file: Attachment, journal: Journal, deadline: float) -> None:
        if journal.progress.tries.get(number, 0) >= TRIES:
            return await _refuse(journal, number, f"it did not get there in {TRIES} tries")
        try:
            data = await asyncio.to_thread(spool.get, self._volume, session, file.ref)
        except FileNotFoundError:
            return await _refuse(journal, number, "it was lost when the data volume was restored to an older copy")
        await journal.add(do="file", file=number)
        try:
            given = await self._calls.do("files_getUploadURLExternal", deadline, filename=file.name, length=len(data))
        except (NotDone, Never) as refusal:
            if refusal.code not in LASTING:
                raise
            return await _refuse(journal, number, LASTING[refusal.code])
        url = str(given.get("upload_url", ""))
        if not may_have_token(url, self._api_url):
            return await _refuse(journal, number, "the address to upload it to is not one of Slack's")
        await self._send(url, data, deadline)
        await journal.add(did="file", file=number, id=str(given["file_id"]))

    async def _send(self, url: str, data: bytes, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotUploaded("no time is left in this attempt")
        timeout = aiohttp.ClientTimeout(total=left)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as http:
                async with http.post(url, data=data, allow_redirects=False, proxy=self._calls.proxy) as answer:
                    if answer.status != 200:
                        raise NotUploaded(f"Slack's answer to the upload was {answer.status}")
        except (TimeoutError, OSError, aiohttp.ClientError) as error:
            raise NotUploaded(f"the upload broke: {type(error).__name__}") from None

    async def _post(self, out: Outbound, place: SlackPlace, journal: Journal, deadline: float) -> None:
        """All that are uploaded, in one message."""
        ids = set(journal.progress.files.values())
        if journal.progress.sharing is not None:
            first, last = journal.progress.sharing
            await self._lookup.settle(last, deadline, times=SLOWER)
            if await self._lookup.find(place, first, lambda message: _has_one_of(message, ids), deadline):
                await journal.add(did="share")
                return
        await journal.add(do="share", at=time.time())
        files = [{"id": id, "title": out.files[n - 1].name} for n, id in sorted(journal.progress.files.items())]
        thread = {"thread_ts": place.thread} if place.thread else {}
        try:
            await self._calls.do(
                "files_completeUploadExternal", deadline, files=files, channel_id=place.channel, **thread
            )
        except (NotDone, Never) as refusal:
            await journal.add(**{"not": "share"}, files=refusal.code != GONE)
            tried = journal.progress.tries.get(SHARING, 0)
            if refusal.code not in LASTING and not isinstance(refusal, Never) and tried < TRIES:
                raise
            why = LASTING.get(refusal.code, f"Slack refuses it ({refusal.code})")
            for number, _ in enumerate(out.files, 1):
                if number not in journal.progress.refused:
                    await _refuse(journal, number, why)
            return
        await journal.add(did="share")


async def _refuse(journal: Journal, number: int, why: str) -> None:
    await journal.add(**{"not": "file"}, file=number, why=why)


def _has_one_of(message: dict[str, Any], ids: set[str]) -> bool:
    files = cast(list[dict[str, Any]], message.get("files") or [])
    return any(str(one.get("id", "")) in ids for one in files)

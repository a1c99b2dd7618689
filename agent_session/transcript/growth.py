"""News of transcripts that grow, where the kernel tells: Linux, and writers on this machine. Elsewhere there
is none, and whoever waits looks by itself."""

import asyncio
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from agent_session.transcript.log import FILE

if TYPE_CHECKING:
    from asyncinotify import Inotify, Watch

LOOK_S = 0.002, 0.25  #: least and most between looks at a transcript of which no news comes
LOOK_WATCHED_S = 0.05, 1.0  #: and where the kernel tells of it
PATIENCE = 4  #: looks come a quarter of the time waited so far apart


async def until_the_next_look(news: asyncio.Event, since: float, *, watched: bool) -> None:
    """Until there is news, or it is time to look without. `since`: when the waiting began, on the monotonic clock."""
    least, most = LOOK_WATCHED_S if watched else LOOK_S
    with suppress(TimeoutError):
        async with asyncio.timeout(min(max((time.monotonic() - since) / PATIENCE, least), most)):
            await news.wait()  # not wait_for, which may swallow a cancel


class Growth:
    """Of one event loop. Holds one inotify instance while anything is watched: a user has 128."""

    def __init__(self) -> None:
        self._inotify: Inotify | None = None
        self._watched: dict[Path, tuple[Watch, asyncio.Event]] = {}

    def watch(self, folder: Path, news: asyncio.Event) -> bool:
        """Set `news` whenever the transcript in `folder` was written and closed, until `forget`. False where
        the kernel does not tell, and for a folder that does not exist yet."""
        if folder in self._watched:
            return True
        if sys.platform != "linux":
            return False
        from asyncinotify import Inotify, Mask

        try:
            if self._inotify is None:
                self._inotify = Inotify(sync_timeout=0)
                asyncio.get_running_loop().add_reader(self._inotify.fd, self._tell)
            watch = self._inotify.add_watch(folder, Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.ONLYDIR)
        except OSError:  # no such folder yet, or no watches left
            self._close_if_idle()
            return False
        self._watched[folder] = watch, news
        return True

    def forget(self, folder: Path) -> None:
        found = self._watched.pop(folder, None)
        if found is not None and self._inotify is not None:
            try:
                self._inotify.rm_watch(found[0])
            except OSError:
                pass  # the folder is gone, and the watch with it
        self._close_if_idle()

    def _tell(self) -> None:
        if self._inotify is None:
            return
        by_number = {watch.wd: (folder, news) for folder, (watch, news) in self._watched.items()}
        for event in self._inotify:
            folder, news = by_number.get(event.watch.wd, (None, None)) if event.watch is not None else (None, None)
            if folder is None or news is None:
                continue
            if event.name is None:  # the folder was moved, removed or unmounted
                self._watched.pop(folder, None)
            if event.name is None or event.name.name == FILE:
                news.set()

    def _close_if_idle(self) -> None:
        if self._inotify is not None and not self._watched:
            asyncio.get_running_loop().remove_reader(self._inotify.fd)
            self._inotify.close()
            self._inotify = None

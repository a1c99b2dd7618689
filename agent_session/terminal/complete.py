"""Completion at the prompt: commands, sessions after /switch, paths. Imports prompt_toolkit."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from agent_session.terminal.commands import ATTACH, OF_SESSION, OF_TERMINAL, SWITCH


class ChatCompleter(Completer):
    """Asked for with Tab only: typing is never interrupted by a menu."""

    def __init__(self, sessions: Callable[[], Awaitable[list[str]]]) -> None:
        self._sessions = sessions
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        line = document.text_before_cursor
        word = line.rpartition(" ")[2].rpartition("\n")[2]
        if line.startswith("/") and " " not in line and "\n" not in line:
            for name, what in {**OF_TERMINAL, **OF_SESSION}.items():
                if name.startswith(line):
                    yield Completion(name, -len(line), display_meta=what)
        path = line[len(ATTACH) + 1 :] if line.startswith(f"{ATTACH} ") else word
        if line.startswith(f"{ATTACH} ") or path.startswith(("./", "../", "/", "~/")):
            yield from self._paths.get_completions(Document(path, len(path)), complete_event)

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        line = document.text_before_cursor
        if line.startswith(f"{SWITCH} "):
            begun = line[len(SWITCH) + 1 :]
            for name in await self._sessions():
                if name.startswith(begun):
                    yield Completion(name, -len(begun))
            return
        for found in self.get_completions(document, complete_event):
            yield found

"""The shell tool: one command in the session's workspace.

Scrubbed environment, no standard input, capped output; the whole process tree is killed at time-out,
at cancel, and when the worker dies, however it dies (the launcher holds a pipe from us). A sandbox
comes with a later version; until then a real model gets the shell only when a setting says so (I9).
"""

import asyncio
import os
import sys
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from agent_session.domain.authority import SHELL_GRANT
from agent_session.settings import ToolsSettings
from agent_session.tools.base import ToolContext, ToolError, tool

LAUNCHER = Path(__file__).parent.parent / "ops" / "launcher.py"
ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM")  #: all that a command sees of ours
CHUNK_BYTES = 64 * 1024


def available(settings: ToolsSettings, model_name: str) -> str:
    sandbox = settings.shell.sandbox
    if sandbox == "none" or (sandbox == "auto" and model_name == "offline"):
        return ""
    if sandbox == "bubblewrap":
        return "the shell is off: tools.shell.sandbox=bubblewrap is not built yet; none runs commands unconfined"
    return "the shell is off with a real model until AGENT_SESSION_TOOLS__SHELL__SANDBOX=none allows it unconfined"


@tool(effects="side_effects", grant=SHELL_GRANT, available=available)
async def shell(
    ctx: ToolContext,
    command: Annotated[str, "The command, for /bin/sh."],
    timeout_s: Annotated[int, "Seconds after which it is killed; at most the configured limit."] = 600,
) -> str:
    """Run a shell command in the workspace and return what it printed (stdout and stderr together)."""
    if "\0" in command:
        raise ToolError("the command holds a NUL character")
    limit_s = max(1, min(timeout_s, ctx.settings.shell.timeout_s))
    output = Output(ctx.settings.shell.output_bytes)
    await ctx.before_effect()
    folder = os.open(ctx.workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(LAUNCHER), str(reading), str(folder), "/bin/sh", "-c", command,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=_environment(ctx), pass_fds=(reading, folder), start_new_session=True,
        )  # fmt: skip
    except BaseException as error:
        os.close(writing)  # the launcher, should it have begun, sees the end of file
        if isinstance(error, OSError):
            raise ToolError(f"the command could not be started: {error.strerror}") from error
        raise
    finally:
        os.close(reading)
        os.close(folder)
    try:
        code = await asyncio.wait_for(_run(process, output, ctx), limit_s)
    except TimeoutError:
        raise ToolError(f"killed after {limit_s} s. Its output so far:\n{output.text()}") from None
    finally:
        os.close(writing)  # the launcher sees the end of file and kills what is left
        with suppress(asyncio.CancelledError):
            await asyncio.shield(process.wait())
    return output.text() if code == 0 else f"{output.text()}\n(exit code {code})".lstrip("\n")


class Output:
    """The first and the last bytes of what a command printed, up to `limit_bytes` in all."""

    def __init__(self, limit_bytes: int) -> None:
        self._half = limit_bytes // 2
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = self._left_out = 0

    def add(self, data: bytes) -> None:
        room = self._half - len(self._head)
        self._head += data[:room]
        if data[room:]:
            self._tail.append(data[room:])
            self._tail_bytes += len(data[room:])
        while self._tail_bytes - len(self._tail[0] if self._tail else b"") >= self._half:
            gone = self._tail.popleft()
            self._tail_bytes -= len(gone)
            self._left_out += len(gone)

    def text(self) -> str:
        gap = f"\n… {self._left_out} bytes left out …\n".encode() if self._left_out else b""
        return (bytes(self._head) + gap + b"".join(self._tail)).decode("utf-8", "replace")


async def _run(process: asyncio.subprocess.Process, output: Output, ctx: ToolContext) -> int:
    assert process.stdout is not None
    while data := await process.stdout.read(CHUNK_BYTES):
        output.add(data)
        ctx.on_output(data.decode("utf-8", "replace"))
    return await process.wait()


def _environment(ctx: ToolContext) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "dumb", **kept, "HOME": str(ctx.workspace)}

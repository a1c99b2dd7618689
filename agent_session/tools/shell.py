"""The shell tool: one command in the session's workspace.

Confined where this machine can (see `agent_session/sandbox`); where it cannot, each command asks a
person, unless a setting says otherwise (I9). No standard input, capped output; the whole process tree is
killed at time-out, at cancel, and when the worker dies, however it dies.
"""

import asyncio
from collections import deque
from typing import Annotated, Any

from agent_session.domain.authority import SHELL_GRANT
from agent_session.sandbox.command import CannotStart, Command
from agent_session.sandbox.confinement import confinement_of
from agent_session.settings import ToolsSettings
from agent_session.tools.base import ToolContext, ToolError, tool

CHUNK_BYTES = 64 * 1024


def available(settings: ToolsSettings, model_name: str) -> str:
    refused = confinement_of(settings.shell).refused
    return f"the shell is off: {refused}" if refused else ""


def asks(arguments: dict[str, Any], settings: ToolsSettings) -> str:
    return confinement_of(settings.shell).asks


def subject(arguments: dict[str, Any]) -> str:
    return str(arguments.get("command", ""))


@tool(effects="side_effects", grant=SHELL_GRANT, available=available, asks=asks, subject=subject, is_command=True)
async def shell(
    ctx: ToolContext,
    command: Annotated[str, "The command, for /bin/sh."],
    timeout_s: Annotated[int, "Seconds after which it is killed; at most the configured limit."] = 600,
) -> str:
    """Run a shell command in the workspace and return what it printed (stdout and stderr together). For
    servers and long jobs use shell_start."""
    limit_s = max(1, min(timeout_s, ctx.settings.shell.timeout_s))
    output = Output(ctx.settings.shell.output_bytes)
    running = await start(ctx, command)
    try:
        code = await asyncio.wait_for(_run(running.process, output, ctx), limit_s)
    except TimeoutError:
        raise ToolError(f"killed after {limit_s} s. Its output so far:\n{output.text()}") from None
    finally:
        await running.end()
    return output.text() if code == 0 else f"{output.text()}\n(exit code {code})".lstrip("\n")


async def start(ctx: ToolContext, command: str, *held_open: int) -> Command:
    """Prove the right to act, then start. Errors: ToolError, StaleAttempt."""
    if "\0" in command:
        raise ToolError("the command holds a NUL character")
    await ctx.before_effect()
    try:
        return await Command.start(command, ctx.workspace, ctx.settings, *held_open)
    except CannotStart as error:
        raise ToolError(str(error)) from None


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

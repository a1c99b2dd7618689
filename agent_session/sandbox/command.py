"""Start one shell command in a workspace, confined as this machine allows, and end it for sure.

Everything that it starts dies with it, with its time-out, and with the worker, however that goes: the
launcher holds a pipe from us. Must not decide whether a command may run: that is policy's.
"""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

from agent_session.sandbox import instructions
from agent_session.sandbox.bubblewrap import ENVIRONMENT, PATH, sandboxed
from agent_session.sandbox.confinement import LAUNCHER, Confinement, confinement_of
from agent_session.settings import ToolsSettings

MIB = 1024 * 1024
#: set inside the sandbox, where it counts the sandbox's own processes only
SET_PROCESS_LIMIT = 'ulimit -u {0} 2>/dev/null || ulimit -p {0} 2>/dev/null; exec /bin/sh -c "$1"'


class CannotStart(Exception):
    """The command was not started; the message says why."""


class Command:
    """A running command: `process.stdout` carries what it prints, stderr included."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: int, workspace: Path, held: tuple[str, ...]) -> None:
        self.process = process
        self._pipe, self._workspace, self._held = pipe, workspace, held

    @classmethod
    async def start(cls, command: str, workspace: Path, settings: ToolsSettings, *held_open: int) -> "Command":
        """Start it. `held_open` are handles that stay open as long as it lives. Errors: CannotStart."""
        confinement = await asyncio.to_thread(confinement_of, settings.shell)
        if confinement.refused:
            raise CannotStart(confinement.refused)
        held: tuple[str, ...] = ()
        folder = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        reading, writing = os.pipe()
        try:
            if confinement.sandbox != "none":
                held = await asyncio.to_thread(instructions.hold, folder, settings.instruction_files)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(LAUNCHER), str(reading), str(folder),
                *_whole(command, workspace, settings, confinement, held),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                env=_environment(workspace), pass_fds=(reading, folder, *held_open), start_new_session=True,
            )  # fmt: skip
        except BaseException as error:
            os.close(writing)  # the launcher, should it have begun, sees the end of file
            if isinstance(error, instructions.NotAFile):
                raise CannotStart(str(error)) from error
            if isinstance(error, OSError):
                raise CannotStart(f"the command could not be started: {error.strerror}") from error
            raise
        finally:
            os.close(reading)
            os.close(folder)
        return cls(process, writing, workspace, held)

    async def end(self, *, read_by_another: bool = False) -> None:
        """End it and all that it started, if it still runs, and clear up behind it. Reads what it still has to
        say away, unless somebody else does: its end is not seen before."""
        if self._pipe >= 0:
            os.close(self._pipe)  # the launcher sees the end of file and kills what is left
            self._pipe = -1
        with suppress(asyncio.CancelledError):
            await asyncio.shield(self.process.wait() if read_by_another else self._read_to_the_end())
        if self._held:
            instructions.release(str(self._workspace), self._held)

    async def _read_to_the_end(self) -> None:
        assert self.process.stdout is not None
        while await self.process.stdout.read(MIB):
            pass
        await self.process.wait()


def _whole(
    command: str, workspace: Path, settings: ToolsSettings, confinement: Confinement, held: tuple[str, ...]
) -> list[str]:
    """The launcher's limits and the command line behind it."""
    if confinement.sandbox == "none":
        return ["-", "/bin/sh", "-c", command]
    shell = settings.shell
    limits = (
        f"processes={shell.processes},memory={shell.memory_mb * MIB},"
        f"file={shell.file_mb * MIB},reserve={shell.disk_reserve_mb * MIB},hold={':'.join(held)}"
    )
    inner = ["/bin/sh", "-c", SET_PROCESS_LIMIT.format(shell.processes), "sh", command]
    network, tmp_bytes = confinement.network, shell.tmp_mb * MIB
    return [
        limits,
        *sandboxed(
            inner, workspace, network=network, tmp_bytes=tmp_bytes, read_only=held, environment=dict(os.environ)
        ),
    ]


def _environment(workspace: Path) -> dict[str, str]:
    """All that the command, or what wraps it, sees of ours."""
    kept = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    return {"PATH": os.environ.get("PATH", PATH), "TERM": "dumb", **kept, "HOME": str(workspace)}

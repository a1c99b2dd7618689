"""A child process that cannot outlive us: started through the launcher, which holds a pipe from us."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")


class Child:
    """One running command."""

    def __init__(self, process: asyncio.subprocess.Process, pipe: int) -> None:
        self._process, self._pipe = process, pipe

    @classmethod
    async def start(
        cls, command: Sequence[str], log: Path | None, environment: Mapping[str, str] | None = None
    ) -> "Child":
        """Start it; its output goes to `log`, or to our stderr. Errors: OSError."""
        reading, writing = os.pipe()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if log else os.dup(2)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(LAUNCHER), str(reading), "-", "-", *command,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                env=environment, pass_fds=(reading,), start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(writing)
            raise
        finally:
            os.close(reading)
            os.close(output)
        return cls(process, writing)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        """Its exit code, once it and all that it started have ended."""
        code = await self._process.wait()
        self.kill()
        return code

    async def stop(self, grace_s: float) -> None:
        """Ask it to end; after `grace_s` end it and all that it started."""
        if self.alive:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), grace_s)
            except TimeoutError:
                pass
        self.kill()
        await self._process.wait()

    def kill(self) -> None:
        """End it now: the launcher sees the pipe close."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

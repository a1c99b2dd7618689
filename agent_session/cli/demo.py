"""The command `demo`: tells a story that `ops/demo.py` plays, a line a step, as it happens. It leaves
nothing behind, and touches nothing that is not its own.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from agent_session.cli.common import run, say

VALUE_COLUMN = 38
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
TURN_S = 0.1
ASKED_TO_END = 143


class Lines:
    """One line a step; on a terminal it turns while the step lasts."""

    def __init__(self) -> None:
        self.label = ""
        self._turning: asyncio.Task[None] | None = None
        self._terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

    def begin(self, label: str) -> None:
        self.label = label
        if self._terminal:
            self._turning = asyncio.create_task(self._turn())

    def end(self, value: str, label: str = "") -> None:
        self.stop()
        print(f"{f'{label or self.label} ':.<{VALUE_COLUMN}} {value}", flush=True)

    def stop(self) -> None:
        if self._turning is not None:
            self._turning.cancel()
            self._turning = None
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()

    async def _turn(self) -> None:
        began = time.monotonic()
        while True:
            seconds = time.monotonic() - began
            sign = SPINNER[int(seconds / TURN_S) % len(SPINNER)]
            sys.stdout.write(f"\r{f'{self.label} ':.<{VALUE_COLUMN}} {sign} {seconds:.0f} s")
            sys.stdout.flush()
            await asyncio.sleep(TURN_S)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Keep the directory that it worked in, and say where.")] = False,
) -> None:
    """Show in half a minute that a killed worker loses nothing: a turn, a tool, kill -9, and the rest.

    Needs no key and no network; works in a temporary directory with a service of its own, and leaves
    yours alone. Every number is measured in this run. Exit: 0 all of it held, 1 something did not.
    """
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="agent-session-demo-"))
    try:
        _isolate(folder)
        run(_play(folder))
    except asyncio.CancelledError:
        raise typer.Exit(ASKED_TO_END) from None
    finally:
        if keep:
            say(f"kept in {folder}: agent-session history demo --data-dir {folder / 'data'}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    left = "" if keep else " and left nothing behind"
    print(f"All of it held; it took {time.monotonic() - began:.0f} s{left}. Now try: agent-session chat", flush=True)


def _isolate(folder: Path) -> None:
    """Make this process, and so all that it starts, blind to the person's own service and keys."""
    from agent_session.ops.demo import own_environment

    environment = own_environment(folder, os.environ)
    os.environ.clear()
    os.environ.update(environment)


async def _play(folder: Path) -> None:
    from agent_session.ops.demo import DemoFailed, play

    me = asyncio.current_task()
    assert me is not None
    for number in (signal.SIGTERM, signal.SIGHUP):  # Ctrl-C cancels by itself
        asyncio.get_running_loop().add_signal_handler(number, me.cancel)
    lines = Lines()
    try:
        await play(folder, lines)
    except DemoFailed as error:
        raise DemoFailed(f"this did not hold: {lines.label}: {error} (--keep leaves the logs to look at)") from None
    finally:
        lines.stop()

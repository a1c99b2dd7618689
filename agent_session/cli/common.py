"""What commands share: flags, settings from flags, running a coroutine, printing JSON."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer

from agent_session.settings import Settings, load_settings

T = TypeVar("T")

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Data directory (env: AGENT_SESSION_DATA_DIR).", show_default=False)
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Temporal address (env: AGENT_SESSION_TEMPORAL__ADDRESS).", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable field names.")]
Session = Annotated[str, typer.Argument(help="The session's key.")]


def settings_from(data_dir: Path | None, address: str | None = None, **more: Any) -> Settings:
    """The effective settings, flags first. Errors: BadSettings."""
    flags: dict[str, Any] = {"data_dir": data_dir, **more}
    if address:
        flags["temporal"] = {"address": address}
    return load_settings(flags)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end."""
    return asyncio.run(work)


async def until_signalled(work: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run `work` with an event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            loop.add_signal_handler(number, stop.set)
    await work(stop)


def print_json(value: Any) -> None:
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_DATACLASS).decode() + "\n")


def say(text: str) -> None:
    """A line for the person, on stderr: stdout is for answers."""
    print(text, file=sys.stderr, flush=True)

"""What commands share: flags, settings from flags, running a coroutine, printing JSON.

`--url` and `--token-file` belong to the whole command line: `app.py` puts them into `GATEWAY` before a command runs.
"""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer

from agent_session.settings import BadSettings, Settings, load_settings

T = TypeVar("T")

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Data directory (env: AGENT_SESSION_DATA_DIR).", show_default=False)
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Temporal address (env: AGENT_SESSION_TEMPORAL__ADDRESS).", show_default=False),
]
GATEWAY: dict[str, Any] = {}  #: what the flags of this command line say of the gateway to talk to
Json = Annotated[bool, typer.Option("--json", help="Print JSON with stable field names.")]
Session = Annotated[str, typer.Argument(help="The session's key.")]


def settings_from(data_dir: Path | None, address: str | None = None, **more: Any) -> Settings:
    """The effective settings, flags first: a Temporal that a flag names goes before a gateway that none names. Errors:
    BadSettings."""
    if address and GATEWAY:
        raise BadSettings("--address names a Temporal, and --url and --token-file are for a gateway: choose one")
    flags: dict[str, Any] = {"data_dir": data_dir, **more}
    if GATEWAY:
        flags["gateway"] = {**GATEWAY, **more.get("gateway", {})}
    if address:
        flags["temporal"] = {"address": address}
        flags["gateway"] = {**more.get("gateway", {}), "url": ""}
    settings = load_settings(flags)
    if GATEWAY and not settings.gateway.url:
        raise BadSettings("--token-file is for a gateway, and none is named: add --url, or set gateway.url")
    return settings


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

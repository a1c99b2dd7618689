"""The command `probe`: one synthetic message through each channel, recorded. Made for a nightly timer."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from agent_session.cli.common import Address, DataDir, Json, print_json, run, say, settings_from

if TYPE_CHECKING:
    from agent_session.telemetry.probes import Probe


def probe(
    data_dir: DataDir = None,
    address: Address = None,
    channel: Annotated[
        list[str] | None, typer.Option(help="Only this one; may be given again. api, http, or a channel's name.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that one answer may take.", min=1)] = 120.0,
    as_json: Json = False,
) -> None:
    """Send one marked message through each channel, wait for the answer, and record how it went.

    The record is probes.jsonl in the data directory; the gateway shows it as metrics. Each answer costs a model call.
    Exit: 0 all went through, 1 one did not, 2 it cannot be probed here.
    """
    settings = settings_from(data_dir, address)
    from agent_session.probing import chosen
    from agent_session.probing import probe as probe_one
    from agent_session.telemetry.probes import record

    names = chosen(settings, channel or [])

    async def work() -> "list[Probe]":
        return list(await asyncio.gather(*(probe_one(settings, name, timeout_s=timeout) for name in names)))

    found = run(work())
    if settings.data_dir.is_dir():
        record(settings.data_dir, found)
    else:
        say(f"not recorded: there is no data directory {settings.data_dir} here")
    if as_json:
        print_json(found)
    else:
        width = max(len(one.channel) for one in found)
        for one in found:
            print(
                f"{one.channel:{width}}  {'ok' if one.ok else 'FAILED':6}  {one.seconds:7.2f} s  {one.problem}".rstrip()
            )
    if not all(one.ok for one in found):
        raise typer.Exit(1)

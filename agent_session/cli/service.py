"""Commands that run things: up, worker, gateway, init, logs."""

import sys
import time
from pathlib import Path
from typing import Annotated

import orjson
import typer

from agent_session.cli.common import Address, DataDir, run, say, settings_from, until_signalled


def up(
    data_dir: DataDir = None,
    address: Address = None,
    workers: Annotated[int, typer.Option(help="Worker processes.", min=1)] = 1,
    ui: Annotated[bool, typer.Option("--ui", help="Also serve Temporal's own UI, on loopback.")] = False,
    with_gateway: Annotated[bool, typer.Option("--gateway/--no-gateway", help="Serve HTTP, too.")] = True,
    while_used: Annotated[
        bool, typer.Option("--while-used", help="End 10 s after the last client, once nothing is open.")
    ] = False,
) -> None:
    """Run everything in one process tree until SIGINT or SIGTERM: Temporal, workers, channels, the gateway.

    Prints a line with "ready" on stderr when it can be used. Exit: 0 stopped, 1 could not start.
    """
    from agent_session.gateway.tokens import Tokens, make_token, refuse_open_without_token
    from agent_session.operations import load_services
    from agent_session.ops.supervisor import Supervisor, UpOptions
    from agent_session.sandbox.confinement import confinement_of
    from agent_session.telemetry import set_up_logging
    from agent_session.transcript.volume import Volume
    from channels import run_by_themselves

    settings = settings_from(data_dir, address)
    Volume(settings.data_dir).create_or_check()
    set_up_logging(settings, process="up", to_file=True)
    load_services(settings)  # what cannot be used is said here, not in a worker's log
    if with_gateway:
        refuse_open_without_token(settings.gateway)
        make_token(settings.data_dir)
        Tokens(settings.gateway, settings.data_dir)
    say(f"shell: {confinement_of(settings.tools.shell).words}")
    channels = tuple(run_by_themselves(settings))
    if channels:
        say(f"channels, each in a process of its own: {', '.join(channels)}")
    supervisor = Supervisor(settings, UpOptions(workers, while_used, ui, with_gateway, channels), say)
    run(until_signalled(supervisor.run))


def worker(
    data_dir: DataDir = None,
    address: Address = None,
    channel: Annotated[list[str] | None, typer.Option(help="Also deliver the replies of this channel.")] = None,
    all_channels: Annotated[
        bool, typer.Option("--all-channels", help="Deliver for every channel that has no process of its own.")
    ] = False,
) -> None:
    """Join a Temporal server as one more worker; any number of replicas may share a volume.

    Reads AGENT_SESSION_TEMPORAL__ADDRESS. Ends at SIGINT or SIGTERM after a graceful drain.
    """
    settings = settings_from(data_dir, address)
    from agent_session.cli.work import work

    run(until_signalled(lambda stop: work(settings, channel or [], all_channels, stop)))


def gateway(
    data_dir: DataDir = None,
    address: Address = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", show_default=False)] = None,
) -> None:
    """Serve HTTP for a data volume: REST, server-sent events, the OpenAI-compatible door, the page.

    `up` runs one by itself. Any number of replicas may share a volume. Ends at SIGINT or SIGTERM.
    """
    from agent_session.gateway.serve import serve
    from agent_session.ops.owner import is_owned
    from agent_session.telemetry import set_up_logging
    from agent_session.transcript.volume import Volume

    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings_from(data_dir, address, **({"gateway": given} if given else {}))
    Volume(settings.data_dir).check()
    set_up_logging(settings, process="gateway", to_file=is_owned(settings.data_dir))
    run(until_signalled(lambda stop: serve(settings, stop, say)))


def init(data_dir: DataDir = None) -> None:
    """Mark an existing directory as a data volume: marker file and signing key. Idempotent.

    Needed once for a shared volume; `up` and `chat` do it for a directory that they create themselves.
    """
    from agent_session.transcript.volume import Volume

    settings = settings_from(data_dir)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    Volume(settings.data_dir).initialise()
    say(f"{settings.data_dir} is a data volume")


def logs(
    data_dir: DataDir = None,
    id: Annotated[
        str | None, typer.Option(help="An error id (e-…), a request id of the gateway, or a part of a correlation id.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.", min=1)] = 100,
) -> None:
    """Show the service's logs, newest last. With --id, only what belongs to one error or turn.

    Exit: 0 shown, 1 nothing found.
    """
    settings = settings_from(data_dir)
    folder = settings.data_dir / "logs"
    found = _matching(folder, id)
    for line in found[-lines:]:
        print(line)
    if not found and not follow:
        say(f"nothing found in {folder}" + (f" for {id}" if id else ""))
        raise typer.Exit(1)
    while follow:
        sys.stdout.flush()
        time.sleep(0.5)
        fresh = _matching(folder, id)
        for line in fresh[len(found) :]:
            print(line)
        found = fresh


def _matching(folder: Path, id: str | None) -> list[str]:
    rows: list[tuple[str, str]] = []
    for path in folder.glob("*.jsonl*"):
        for raw in path.read_bytes().splitlines():
            try:
                line = orjson.loads(raw)
            except orjson.JSONDecodeError:
                continue
            if id and id not in (line.get("error_id"), line.get("request_id")) and id not in str(line.get("id", "")):
                continue
            rows.append((str(line.get("timestamp", "")), _readable(line)))
    return [text for _, text in sorted(rows)]


def _readable(line: dict[str, object]) -> str:
    head = f"{line.pop('timestamp', '')} {line.pop('level', '')!s:7} {line.pop('event', '')}"
    tail = line.pop("exception", "")
    rest = " ".join(f"{name}={value}" for name, value in line.items())
    return f"{head}  {rest}" + (f"\n{tail}" if tail else "")

"""Commands about heartbeats: heartbeat set, show, approve, now, pause, resume, off."""

import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from agent_session.cli.common import Address, DataDir, Json, Session, print_json, run, say, settings_from
from agent_session.domain.beats import SKIPS
from agent_session.domain.cards import visible
from agent_session.settings import BadSettings, Settings

if TYPE_CHECKING:
    from agent_session.client import SessionClient
    from agent_session.scheduled.heartbeats import Heartbeats, Shown

T = TypeVar("T")
SKIPPED = 1

heartbeat = typer.Typer(
    help="A session looks after HEARTBEAT.md by itself: set, show, approve, now, pause, resume, off.",
    no_args_is_help=True,
)
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Approve HEARTBEAT.md as it is, without a question.")]


@heartbeat.command("set")
def set_(
    session: Session,
    every: Annotated[str, typer.Option(help="So long between beats: 30m, 2h; at least 1s (default 30m).")] = "",
    active: Annotated[str, typer.Option(help="Only at these times of day: 08:00-23:00 (default always).")] = "",
    tz: Annotated[str, typer.Option(help="Time zone of --active: Europe/Rome. Else this machine's.")] = "",
    target: Annotated[
        str,
        typer.Option(help="Where answers go: last (the default: where a person last wrote from), none, or file:notes."),
    ] = "",
    jitter: Annotated[str, typer.Option(help="Up to so much later, by chance: 10s (default 0).")] = "",
    yes: Yes = False,
    data_dir: DataDir = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Set a session's heartbeat, or change what is named; then show HEARTBEAT.md and approve it.

    Exit: 0 set, 2 it cannot be set so, 3 no such session, 4 no service.
    """
    from agent_session.scheduled.heartbeats import Wanted
    from agent_session.scheduled.schedules_when import local_time_zone

    settings = settings_from(data_dir, address)
    wanted = Wanted(every=every, active=active, time_zone=tz, target=target, jitter=jitter)

    async def work(found: "Heartbeats", client: "SessionClient") -> "Shown":
        made = await found.set(session, wanted, settings.schedule.time_zone or local_time_zone())
        return await _approve(found, client, session, yes=yes, said=made, quiet=as_json)

    _print(_with_heartbeats(settings, work), as_json)


@heartbeat.command()
def approve(
    session: Session, yes: Yes = False, data_dir: DataDir = None, address: Address = None, as_json: Json = False
) -> None:
    """Show HEARTBEAT.md and let beats run it, exactly as it is now. Exit: 0 done, 3 no heartbeat is set."""

    async def work(found: "Heartbeats", client: "SessionClient") -> "Shown":
        return await _approve(found, client, session, yes=yes, said=await found.show(session), quiet=as_json)

    _print(_with_heartbeats(settings_from(data_dir, address), work), as_json)


@heartbeat.command()
def show(
    session: Annotated[str | None, typer.Argument(help="The session's key; without it, all that have one.")] = None,
    data_dir: DataDir = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show heartbeats: times, target, whether HEARTBEAT.md is approved, why beats were skipped.

    Exit: 0 shown, 3 no heartbeat is set.
    """

    async def work(found: "Heartbeats", client: "SessionClient") -> "list[tuple[Shown, str]]":
        rows = [await found.show(session)] if session else await found.listed()
        return [(row, _standing(client, row)) for row in rows]

    rows = _with_heartbeats(settings_from(data_dir, address), work)
    if as_json:
        print_json([{**asdict(row), "content": standing} for row, standing in rows])
        return
    for row, standing in rows:
        print("\n".join(_lines(row, standing)))
    if not rows:
        say("no heartbeats")


@heartbeat.command()
def now(session: Session, data_dir: DataDir = None, address: Address = None) -> None:
    """Beat once, at once: also outside active hours, and while paused. Its answer goes to the target.

    Exit: 0 it beats, 1 skipped (and why) or no worker runs, 3 no heartbeat is set.
    """

    async def work(found: "Heartbeats", client: "SessionClient") -> str:
        began = int(time.time())
        outcome = await found.now(session)
        status = await client.status(session) if outcome not in SKIPS else None
        by_session = status is not None and status.beat_skip and status.beat_skip_s >= began
        return status.beat_skip if status is not None and by_session else outcome

    outcome = _with_heartbeats(settings_from(data_dir, address), work)
    if outcome in SKIPS:
        say(f"skipped: {SKIPS[outcome]}")
        raise typer.Exit(SKIPPED)
    say(f"session {session} beats now")


@heartbeat.command()
def pause(session: Session, data_dir: DataDir = None, address: Address = None) -> None:
    """Let its times go by until 'resume'. Exit: 0 paused, 3 no heartbeat is set."""
    _print(_with_heartbeats(settings_from(data_dir, address), lambda found, _: found.pause(session)), False)


@heartbeat.command()
def resume(session: Session, data_dir: DataDir = None, address: Address = None) -> None:
    """Go on with the times to come. Exit: 0 resumed, 3 no heartbeat is set."""
    _print(
        _with_heartbeats(settings_from(data_dir, address), lambda found, _: found.pause(session, resume=True)), False
    )


@heartbeat.command()
def off(session: Session, data_dir: DataDir = None, address: Address = None) -> None:
    """Take it away, with its approval. Exit: 0 gone, 3 no heartbeat is set."""
    _with_heartbeats(settings_from(data_dir, address), lambda found, _: found.off(session))
    say(f"session {session} has no heartbeat any more")


async def _approve(
    found: "Heartbeats", client: "SessionClient", session: str, *, yes: bool, said: "Shown", quiet: bool
) -> "Shown":
    """What is shown is what is approved: it is read once. Nobody is asked where nobody can answer."""
    from agent_session.operations import workspace_of
    from agent_session.scheduled.heartbeat_content import digest_of, has_something, read_content

    workspace = workspace_of(client.volume, said.session)
    content = read_content(workspace)
    if not has_something(content):
        then = f"agent-session heartbeat approve {quote(session)}"
        say(f"{workspace}/HEARTBEAT.md has nothing in it: write it, then '{then}'")
        return await found.approve(session, content, client.principal)
    if not quiet:
        say(f"{workspace}/HEARTBEAT.md:")
        for line in content.decode("utf-8", "replace").splitlines():
            say(f"  | {visible(line)}")
    known = digest_of(content) == said.approved
    if not (known or yes) and sys.stdin.isatty() and not typer.confirm("Run this at every beat?", err=True):
        say("it is not approved: beats are skipped until it is")
        return said
    return await found.approve(session, content, client.principal)


def _with_heartbeats(settings: Settings, work: "Callable[[Heartbeats, SessionClient], Awaitable[T]]") -> T:
    async def attached() -> T:
        async with _heartbeats(settings) as (found, client):
            return await work(found, client)

    return run(attached())


@asynccontextmanager
async def _heartbeats(settings: Settings) -> "AsyncGenerator[tuple[Heartbeats, SessionClient]]":
    """Those of this service. Errors: Unreachable, BadSettings."""
    if settings.gateway.url:
        raise BadSettings(
            f"heartbeats are not set through a gateway, and gateway.url is {settings.gateway.url}: run this where the "
            f"service runs, or name its Temporal with --address"
        )
    from agent_session.ops.attach import local
    from agent_session.scheduled.heartbeats import Heartbeats

    async with local(settings, channel="cli", start=False) as client:
        yield Heartbeats(client.temporal, client.settings), client


def _standing(client: "SessionClient", row: "Shown") -> str:
    """How HEARTBEAT.md stands to what was approved: approved, changed, empty or unreadable."""
    from agent_session.operations import workspace_of
    from agent_session.scheduled.heartbeat_content import digest_of, has_something, read_content

    try:
        content = read_content(workspace_of(client.volume, row.session))
    except (OSError, ValueError):
        return "unreadable"
    if not has_something(content):
        return "empty"
    return "approved" if digest_of(content) == row.approved else "changed"


def _print(row: "Shown", as_json: bool) -> None:
    if as_json:
        print_json(row)
    else:
        print(_lines(row, "")[0])


def _lines(row: "Shown", standing: str) -> list[str]:
    """For a person; the first line stands for itself."""
    from agent_session.scheduled.schedules_when import local, span

    hours = f"{row.active} ({row.time_zone})" if row.active else "always"
    jitter = f", up to {span(row.jitter_s)} later" if row.jitter_s else ""
    parts: list[Any] = [row.session, row.state, f"every {span(row.every_s)}{jitter}", hours, f"answers to {row.target}"]
    if row.next_s:
        parts.append(f"next {local(row.next_s, row.time_zone)}")
    if not row.approved:
        parts.append("nothing approved")
    lines = [" · ".join(parts)]
    if standing:
        by = f", by {row.approved_by} on {local(row.approved_s, row.time_zone)}" if standing == "approved" else ""
        lines.append(f"  HEARTBEAT.md: {standing}{by}")
    last = f", the last {local(row.last_s, row.time_zone)}" if row.last_s else ""
    lines.append(f"  was due {row.due} times{last}")
    if row.skip:
        since = local(row.skip_since_s, row.time_zone)
        lines.append(f"  {row.skipped} skipped since {since}: {SKIPS.get(row.skip, row.skip)}")
    return lines

"""Commands about schedules: schedule add, list, show, pause, resume, run, remove."""

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from agent_session.cli.common import Address, DataDir, Json, Session, print_json, run, say, settings_from
from agent_session.domain.schedules import LAST, NoSuchSchedule, Shown, Wanted
from agent_session.settings import BadSettings, Settings

if TYPE_CHECKING:
    from agent_session.scheduled.schedules import Schedules

T = TypeVar("T")
NO_SUCH_SCHEDULE = 3
WORDS_SHOWN = 60

schedule = typer.Typer(
    help="Words said to a session at times to come: add, list, show, pause, resume, run, remove.", no_args_is_help=True
)
Name = Annotated[str, typer.Argument(help="The schedule's name.")]


@schedule.command()
def add(
    session: Session,
    words: Annotated[str, typer.Argument(help="What the session is told; - reads it from standard input.")],
    at: Annotated[str, typer.Option(help="Once, at a time: 2026-12-01T09:00.")] = "",
    within: Annotated[str, typer.Option("--in", help="Once, in a while: 90s, 20m, 1h30m, 2d.")] = "",
    every: Annotated[str, typer.Option(help="Again and again, so long between: 30m. The first in that time.")] = "",
    cron: Annotated[str, typer.Option(help="Minute, hour, day, month, day of the week: '0 9 * * 1-5'.")] = "",
    tz: Annotated[str, typer.Option(help="Time zone of --at and --cron: Europe/Rome. Else this machine's.")] = "",
    target: Annotated[
        str, typer.Option(help="Where the answer goes: last (where a person last wrote from), none, or file:notes.")
    ] = LAST,
    name: Annotated[str, typer.Option(help="A name of its own; else a short id is made.")] = "",
    isolated: Annotated[
        bool, typer.Option("--isolated", help="Each time in a session of its own, with one turn, beside this one.")
    ] = False,
    jitter: Annotated[str, typer.Option(help="Up to so much later, by chance: 2m.")] = "",
    data_dir: DataDir = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Make a schedule. The session need not live yet; what it is told carries no rights: tools that ask, ask.

    Exit: 0 made, 2 it cannot be made so, 4 no service.
    """
    wanted = Wanted(
        text=sys.stdin.read() if words == "-" else words,
        at=at,
        within=within,
        every=every,
        cron=cron,
        time_zone=tz,
        name=name,
        target=target,
        isolated=isolated,
        jitter=jitter,
    )
    settings = settings_from(data_dir, address)
    made = _with_schedules(settings, lambda found, who: found.add(session, wanted, made_by=who))
    _print(made, as_json)


@schedule.command("list")
def list_(
    session: Annotated[str | None, typer.Argument(help="The session's key; without it, all sessions.")] = None,
    data_dir: DataDir = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """List schedules with their next time. Exit: 0 listed, 4 no service."""
    rows = _with_schedules(settings_from(data_dir, address), lambda found, _: found.listed(session or ""))
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print(_line(row))
    if not rows:
        say("no schedules")


@schedule.command()
def show(
    session: Session, name: Name, data_dir: DataDir = None, address: Address = None, as_json: Json = False
) -> None:
    """Show one schedule: its words, its next times, how often it came. Exit: 0 shown, 3 no such schedule."""
    found = _with_schedules(settings_from(data_dir, address), lambda found, _: found.show(session, name))
    if as_json:
        print_json(found)
        return
    from agent_session.scheduled.schedules_when import local

    print(_line(found, words=False))
    print(f"next: {', '.join(local(time, found.time_zone) for time in found.next_s) or 'never'}")
    print(f"came {found.fired} times, skipped {found.skipped}, missed {found.missed}")
    print(f"made by {found.made_by or 'nobody known'}" + (", in a session of its own" if found.isolated else ""))
    print(found.text)


@schedule.command()
def pause(session: Session, name: Name, data_dir: DataDir = None, address: Address = None) -> None:
    """Let its times go by until 'resume'. Exit: 0 paused, 3 no such schedule."""
    _print(_with_schedules(settings_from(data_dir, address), lambda found, _: found.pause(session, name)), False)


@schedule.command()
def resume(session: Session, name: Name, data_dir: DataDir = None, address: Address = None) -> None:
    """Go on with the times to come; also of one that Temporal has lost.

    Exit: 0 resumed, 2 its only time has passed, 3 no such schedule.
    """
    _print(_with_schedules(settings_from(data_dir, address), lambda found, _: found.resume(session, name)), False)


@schedule.command("run")
def run_(session: Session, name: Name, data_dir: DataDir = None, address: Address = None) -> None:
    """Say it now, paused or not; one that comes once is over with it. Exit: 0 it is said, 3 no such schedule."""
    _with_schedules(settings_from(data_dir, address), lambda found, _: found.run(session, name))
    say(f"schedule {name} of session {session} speaks now")


@schedule.command()
def remove(session: Session, name: Name, data_dir: DataDir = None, address: Address = None) -> None:
    """Remove a schedule. Exit: 0 removed, 3 no such schedule."""
    _with_schedules(settings_from(data_dir, address), lambda found, _: found.remove(session, name))
    say(f"schedule {name} of session {session} is removed")


def _with_schedules(settings: Settings, work: "Callable[[Schedules, str], Awaitable[T]]") -> T:
    async def attached() -> T:
        async with _schedules(settings) as (found, who):
            return await work(found, who)

    try:
        return run(attached())
    except NoSuchSchedule as error:
        say(f"error: {error}")
        raise typer.Exit(NO_SUCH_SCHEDULE) from None


@asynccontextmanager
async def _schedules(settings: Settings) -> "AsyncGenerator[tuple[Schedules, str]]":
    """The schedules of this service, and who asks. Errors: Unreachable, BadSettings."""
    if settings.gateway.url:
        raise BadSettings(
            f"schedules are not made through a gateway, and gateway.url is {settings.gateway.url}: run this where the "
            f"service runs, or name its Temporal with --address"
        )
    from agent_session.ops.attach import local
    from agent_session.scheduled.schedules import Schedules

    async with local(settings, channel="cli", start=False) as client:
        yield Schedules(client.temporal, client.settings), client.principal


def _print(found: Shown, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print(_line(found))


def _line(found: Shown, *, words: bool = True) -> str:
    from agent_session.scheduled.schedules_when import local

    said = " ".join(found.text.split())
    said = f"“{said[:WORDS_SHOWN]}…”" if len(said) > WORDS_SHOWN else f"“{said}”"
    parts = [found.session, found.name, found.state]
    if found.when:
        parts.append(f"{found.when} ({found.time_zone})")
        parts += [f"next {local(found.next_s[0], found.time_zone)}"] if found.next_s and found.state != "paused" else []
        parts.append(f"answer to {found.target}")
    return " · ".join([*parts, said] if words else parts)

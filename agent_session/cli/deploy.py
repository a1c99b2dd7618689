"""Commands of a rolling deploy: deploy list, current, ramp, drain. The order of one is in docs/operations/deploy.md."""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from agent_session.cli.common import Address, DataDir, Json, print_json, run, say, settings_from
from agent_session.settings import BadSettings, Settings

if TYPE_CHECKING:
    from agent_session.ops.deploy.drain import Drained
    from agent_session.ops.deploy.versions import Deployment, Found, Version

T = TypeVar("T")
LEFT_SHOWN = 10

deploy = typer.Typer(
    help="Worker versions: list them, make one current, move sessions off one before its workers stop.",
    no_args_is_help=True,
)
Build = Annotated[str, typer.Argument(help="The worker.build_id; agent-session deploy list.")]
Name = Annotated[
    str, typer.Option("--deployment", help="The deployment (setting: worker.deployment).", show_default=False)
]
Wait = Annotated[float, typer.Option(help="Seconds to wait for a worker of it: they may be starting.", min=0)]


@deploy.command("list")
def list_(deployment: Name = "", data_dir: DataDir = None, address: Address = None, as_json: Json = False) -> None:
    """Show the builds, newest first: which is current, how many sessions each has, how many workers poll for it.

    Exit: 0 shown, 2 no such deployment, 4 no Temporal.
    """
    settings = settings_from(data_dir, address)
    found = run(_with_deployment(settings, deployment, lambda one: one.look()))
    if as_json:
        print_json(found)
        return
    for version in found.versions:
        print(_line(version))
    if found.unversioned_sessions or found.unversioned_workers:
        workers = len(found.unversioned_workers)
        print(f"no version · sessions: {found.unversioned_sessions} · workers: {workers}")
    for problem in _problems(found):
        say(problem)


@deploy.command()
def current(
    build: Build, deployment: Name = "", wait: Wait = 60, data_dir: DataDir = None, address: Address = None
) -> None:
    """Let new sessions start on a build, and others move to it as they roll over. Its workers must run.

    Exit: 0 it is current, 1 Temporal refused, 2 no such build or no worker of it, 4 no Temporal.
    """
    settings = settings_from(data_dir, address)
    before = run(_with_deployment(settings, deployment, lambda one: one.make_current(build, wait_s=wait)))
    if before == build:
        print(f"{build} was current already")
        return
    print(f"{build} is current" + (f" (before: {before})" if before else ""))
    if before:
        say(f"move its sessions before the workers of {before} stop: agent-session deploy drain {before}")


@deploy.command()
def ramp(
    build: Build,
    percent: Annotated[float, typer.Argument(help="0 to 100; 0 ends the ramp.")],
    deployment: Name = "",
    wait: Wait = 60,
    data_dir: DataDir = None,
    address: Address = None,
) -> None:
    """Try a build with some sessions first: so many percent of them start on it, or move to it as they roll over.

    Exit: as `deploy current`.
    """
    settings = settings_from(data_dir, address)
    run(_with_deployment(settings, deployment, lambda one: one.ramp(build, percent, wait_s=wait)))
    print(f"{build} takes {percent:g} % of sessions" if percent else "no build is ramping")


@deploy.command()
def drain(
    build: Build,
    deployment: Name = "",
    timeout: Annotated[float, typer.Option(help="Seconds after which to give up; what moved has moved.", min=1)] = 600,
    per_second: Annotated[float, typer.Option(help="Sessions to ask in a second, at most.", min=0.1)] = 50,
    gone: Annotated[
        bool,
        typer.Option("--gone", help="Its workers are gone for good: the current ones take its sessions as they are."),
    ] = False,
    data_dir: DataDir = None,
    address: Address = None,
) -> None:
    """Move every session off a build, so that its workers can stop. Running turns go on: they move between two steps.

    Safe to repeat. Exit: 0 none is left, 1 some are (they are named), 2 it cannot be drained, 4 no Temporal.
    """
    from agent_session.ops.deploy.drain import Drain

    settings = settings_from(data_dir, address)

    async def work(one: "Deployment") -> "tuple[Drained, list[str]]":
        ended = await Drain(one, build, timeout, per_second, gone, say).run()
        return ended, await _told(one, settings, ended.left)

    ended, left = run(_with_deployment(settings, deployment, work))
    if ended.left:
        print("\n".join(left))
        say(
            f"{len(ended.left)} left on {build} after {ended.seconds:.0f} s: leave its workers running, and drain again"
        )
        raise typer.Exit(1)
    print(f"{build} is drained: {ended.moved} sessions moved in {ended.seconds:.1f} s; its workers can stop")


async def _with_deployment(settings: Settings, name: str, work: "Callable[[Deployment], Awaitable[T]]") -> T:
    from agent_session.connection import connect
    from agent_session.ops.deploy.versions import Deployment

    name = name or settings.worker.deployment
    if not name:
        raise BadSettings("which deployment? add --deployment NAME, or set worker.deployment as its workers have it")
    return await work(Deployment(await connect(settings), name, settings.task_queue))


async def _told(one: "Deployment", settings: Settings, left: tuple[str, ...]) -> list[str]:
    """What those that are left are doing."""
    from agent_session.client import SessionClient
    from agent_session.client_types import NoSuchSession
    from agent_session.domain.ids import WORKFLOW_PREFIX, key_of_workflow
    from agent_session.domain.status_words import status_lines

    lines: list[str] = []
    client = SessionClient(one.client, settings, channel="cli")
    for name in left[:LEFT_SHOWN]:
        if not name.startswith(WORKFLOW_PREFIX):
            lines.append(name)
            continue
        try:
            lines += status_lines(await client.status(key_of_workflow(name)), int(time.time()))[:3]
        except NoSuchSession:
            continue  # it has moved, or ended, in this moment
    return [*lines, f"and {len(left) - LEFT_SHOWN} more"] if len(left) > LEFT_SHOWN else lines


def _line(version: "Version") -> str:
    state = f"ramping {version.percent:g} %" if version.state == "ramping" else version.state
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(version.created_s))
    return f"{version.build} · {state} · since {made} · sessions: {version.sessions} · workers: {len(version.workers)}"


def _problems(found: "Found") -> list[str]:
    """What somebody should do something about."""
    lines: list[str] = []
    if found.current is None:
        lines.append("no build is current: new sessions go to workers without a version (deploy current BUILD)")
    for one in found.versions:
        if (one.sessions or one.state in ("current", "ramping")) and not one.workers:
            lines.append(f"no worker of {one.build} polls: its sessions hang until one does")
    if not found.settled:
        lines.append("the task queue does not know of the last change yet, or its workers are of another deployment")
    return lines

"""Commands about channels: channels list, status, run, pair; and slack, which is `channels run slack`."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from agent_session.cli.common import Address, DataDir, Json, print_json, run, say, settings_from, until_signalled

if TYPE_CHECKING:
    from agent_session.ops.channel_status import ChannelStatus

channels = typer.Typer(help="Where people come in: list, status, run, pair.", no_args_is_help=True)
pair = typer.Typer(help="Slack: people whom the app answers since an operator said so.", no_args_is_help=True)
channels.add_typer(pair, name="pair")
Name = Annotated[str, typer.Argument(help="The channel's name; agent-session channels list.")]
Supervised = Annotated[bool, typer.Option("--supervised", hidden=True)]


@channels.command("list")
def list_(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show the channels that there are, and what those need that are not configured. No service need run."""
    settings = settings_from(data_dir)
    from agent_session.ops.channel_status import described
    from channels import channel_names

    found = [described(name, settings) for name in channel_names()]
    if as_json:
        shown = ("name", "receives", "delivers", "can", "missing", "task_queue")
        print_json([{name: getattr(one, name) for name in shown} for one in found])
        return
    for one in found:
        state = f"not configured: {one.missing}" if one.missing else "configured"
        print(" · ".join(part for part in (one.name, _ways(one), ", ".join(one.can), state, one.task_queue) if part))


@channels.command()
def status(
    data_dir: DataDir = None,
    address: Address = None,
    probe: Annotated[bool, typer.Option("--probe", help="Have each channel send and receive, for real.")] = False,
    as_json: Json = False,
) -> None:
    """Show who delivers for each channel and what waits. One that is not configured is no problem.

    Exit: 0 all is well, 1 a channel has a problem, 4 no service.
    """
    settings = settings_from(data_dir, address)

    async def work() -> "list[ChannelStatus]":
        from agent_session.connection import connect
        from agent_session.ops.channel_status import looked_at
        from channels import channel_names

        return await looked_at(await connect(settings), settings, channel_names(), probe=probe)

    found = run(work())
    if as_json:
        print_json(found)
    else:
        print("\n".join(_line(one) for one in found))
    if any(one.problem for one in found):
        raise typer.Exit(1)


@channels.command("run")
def run_(name: Name, data_dir: DataDir = None, address: Address = None, supervised: Supervised = False) -> None:
    """Run one channel: take messages in, and deliver its replies. Any number of replicas may run.

    `up` does it by itself for each that is configured. Ends at SIGINT or SIGTERM.
    """
    settings = settings_from(data_dir, address)
    from agent_session.cli.channel_work import run_channel

    run(until_signalled(lambda stop: run_channel(settings, name, stop, supervised=supervised)))


def slack(data_dir: DataDir = None, address: Address = None) -> None:
    """Run the Slack channel alone: short for `channels run slack`."""
    run_("slack", data_dir, address)


@pair.command()
def approve(
    code: Annotated[str, typer.Argument(help="The code that the person was shown.")], data_dir: DataDir = None
) -> None:
    """Answer the person who was shown this code from now on; it gives them no right to approve. Exit: 0 done,
    2 no such code."""
    settings = settings_from(data_dir)
    from agent_session.transcript.volume import Volume
    from channels.slack import pairing

    found = pairing.approve(Volume(settings.data_dir), code)
    say(f"{found.user} {found.name!r} is answered from now on")


@pair.command("list")
def list_pairs(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show who waits with a code, and who was paired. Exit: 0 shown."""
    settings = settings_from(data_dir)
    from agent_session.transcript.volume import Volume
    from channels.slack import pairing

    volume = Volume(settings.data_dir)
    waiting, paired = pairing.waiting(volume), pairing.paired(volume)
    if as_json:
        print_json({"waiting": waiting, "paired": paired})
        return
    for code in waiting:
        print(f"{code.user} {code.name!r} · waits · code {code.code}, good until {_clock(code.expires_s)}")
    for one in paired:
        print(f"{one.user} {one.name!r} · paired · since {_clock(one.since_s)}")
    if not waiting and not paired:
        say("nobody waits, and nobody is paired")


@pair.command()
def remove(user: Annotated[str, typer.Argument(help="The person's Slack user id.")], data_dir: DataDir = None) -> None:
    """Answer a person no more, unless settings name them. Exit: 0 removed, 1 they were not paired."""
    settings = settings_from(data_dir)
    from agent_session.transcript.volume import Volume
    from channels.slack import pairing

    if not pairing.remove(Volume(settings.data_dir), user):
        say(f"{user} is not paired: agent-session channels pair list shows who is")
        raise typer.Exit(1)
    say(f"{user} is answered no more")


def _clock(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _ways(one: "ChannelStatus") -> str:
    return " and ".join(word for word, has in (("in", one.receives), ("out", one.delivers)) if has) or "by itself"


def _line(one: "ChannelStatus") -> str:
    if one.missing:
        state = f"not configured: {one.missing}"
    elif one.problem:
        state = f"PROBLEM: {one.problem}"
    else:
        state = "ok" if one.probe is None else "ok, tried"
    parts = [one.name, _ways(one), state]
    if one.pollers:
        parts.append(f"delivered by {', '.join(one.pollers)}")
    if one.waiting is not None:
        parts.append(f"{one.waiting} waiting")
    return " · ".join(parts)

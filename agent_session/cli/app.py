"""The commands, put together, and the options of the whole command line."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agent_session.cli import (
    approvals,
    channels,
    common,
    config,
    demo,
    deploy,
    doctor,
    heartbeat,
    look,
    page,
    probe,
    schedule,
    service,
    talk,
)

#: commands that work through a gateway
THROUGH_A_GATEWAY = (
    "chat", "send", "status", "sessions", "history", "watch", "cancel", "close", "approvals", "page",
)  # fmt: skip
GLOBAL_OPTIONS = ("--url", "--token-file")


class CommandLine(TyperGroup):
    """Takes the global options behind a command, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_global_options_first(args))


def with_global_options_first(args: list[str]) -> list[str]:
    """`send main hi --url U` as `--url U send main hi`. What stands behind `--` is no option, and another command may
    have options of these names."""
    end = args.index("--") if "--" in args else len(args)
    first, rest, at = list[str](), list[str](), 0
    while at < end:
        name, equals, _ = args[at].partition("=")
        to = min(at + 2, end) if name in GLOBAL_OPTIONS and not equals else at + 1
        (first if name in GLOBAL_OPTIONS else rest).extend(args[at:to])
        at = to
    command = next((one for one in rest if not one.startswith("-")), "")
    return [*first, *rest, *args[end:]] if command in THROUGH_A_GATEWAY else args


app = typer.Typer(
    name="agent-session",
    cls=CommandLine,
    help="A durable, always-on AI agent: one conversation is one Temporal workflow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", "-V", help="Show the version and leave.")] = False,
    url: Annotated[
        str | None,
        typer.Option(help="Talk to the gateway at this URL (env: AGENT_SESSION_GATEWAY__URL).", show_default=False),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with its token (env: AGENT_SESSION_GATEWAY__TOKEN_FILE).", show_default=False),
    ] = None,
) -> None:
    """A durable, always-on AI agent: one conversation is one Temporal workflow."""
    given = {"url": url, "token_file": token_file}
    common.GATEWAY.clear()
    common.GATEWAY.update({name: value for name, value in given.items() if value is not None})
    if common.GATEWAY and ctx.invoked_subcommand not in THROUGH_A_GATEWAY:
        names = ", ".join(THROUGH_A_GATEWAY)
        raise typer.BadParameter(f"{ctx.invoked_subcommand} does not go through a gateway; these commands do: {names}")


COMMANDS = {
    "chat": talk.chat,
    "send": talk.send,
    "run": talk.run_once,
    "status": look.status,
    "sessions": look.sessions,
    "history": look.history,
    "watch": look.watch,
    "cancel": talk.cancel,
    "close": talk.close,
    "approvals": approvals.approvals,
    "up": service.up,
    "worker": service.worker,
    "gateway": service.gateway,
    "channels": channels.channels,
    "slack": channels.slack,
    "heartbeat": heartbeat.heartbeat,
    "schedule": schedule.schedule,
    "page": page.page,
    "probe": probe.probe,
    "init": service.init,
    "logs": service.logs,
    "config": config.config,
    "demo": demo.demo,
    "doctor": doctor.doctor,
    "deploy": deploy.deploy,
}

for name, command in COMMANDS.items():
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)

"""The commands, put together."""

from typing import Annotated

import typer

from agent_session.cli import approvals, config, demo, look, service, talk

app = typer.Typer(
    name="agent-session",
    help="A durable, always-on AI agent: one conversation is one Temporal workflow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", "-V", help="Show the version and leave.")] = False) -> None:
    """A durable, always-on AI agent: one conversation is one Temporal workflow."""


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
    "init": service.init,
    "logs": service.logs,
    "config": config.config,
    "demo": demo.demo,
}

for name, command in COMMANDS.items():
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)

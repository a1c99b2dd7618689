"""Commands that talk to a session: chat, send, run, cancel, close."""

import sys
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_session.cli.common import Address, DataDir, Json, Session, print_json, run, say, settings_from
from agent_session.settings import Settings

if TYPE_CHECKING:
    pass

CHAT_HELP = "  /help says what else this chat understands"
OFFLINE_HELP = ("  it answers by rule: run <command>, read <path>, remember …, what did I say?", CHAT_HELP)


def chat(
    session: Annotated[str, typer.Argument(help="The session's key.")] = "main",
    data_dir: DataDir = None,
    address: Address = None,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", help="Folder that the session's tools work in, from now on.")
    ] = None,
    attach: Annotated[list[Path] | None, typer.Option(help="Attach a file to the first message (repeatable).")] = None,
) -> None:
    """Talk to a session. Starts the service when none runs; it ends 10 s after the last chat.

    With standard input not a terminal, each line is a message, sent when the reply to the one before has
    come; replies go to stdout, errors to stderr. Exit: 0 at the end of input, 1 when a message failed, 5 when
    a tool call waits for a person (see 'approvals').
    """
    settings = settings_from(data_dir, address)
    _check_files(attach or [])
    if not run(_chat(settings, session, workspace, attach or [])):
        raise typer.Exit(1)


def _check_files(paths: list[Path]) -> None:
    """Before anything is started. Errors: ValueError."""
    for path in paths:
        if not path.is_file():
            raise ValueError(f"--attach {path} is no file: name one that exists")
        with path.open("rb"):
            pass  # readable, or the error names it


async def _chat(settings: Settings, session: str, workspace: Path | None, attach: list[Path]) -> bool:
    from agent_session.domain.ids import session_key
    from agent_session.ops.attach import attached
    from agent_session.terminal.channel import TerminalChannel
    from agent_session.terminal.spinner import with_spinner
    from channels.cli import CliChannel

    key = session_key(session)
    if workspace is not None and not workspace.is_dir():
        raise ValueError(f"--workspace {workspace} is no folder")
    someone = sys.stdin is not None and sys.stdin.isatty()
    if not settings.gateway.url:  # behind a gateway the model is not ours to check
        _check_model(settings, someone)
    elif someone:
        say(f"through {settings.gateway.url}\n{CHAT_HELP}")
    channel = TerminalChannel(key, attach) if someone else CliChannel(key, attach)
    async with AsyncExitStack() as stack:
        service = attached(settings, channel=channel.name, start=True)
        what = f"calling {settings.gateway.url}" if settings.gateway.url else "starting the service"
        client = await with_spinner(what, stack.enter_async_context(service))
        if workspace is not None:
            client.use_workspace(key, workspace)
        await channel.run(client)
    return not channel.failed


def _check_model(settings: Settings, someone: bool) -> None:
    """Before anything is started. Errors: ModelFault."""
    from agent_session.models import load_model, model_name
    from agent_session.models.offline import HINT

    if model_name(settings) == "offline":
        say("\n".join([HINT, *OFFLINE_HELP]) if someone else HINT)
    load_model(settings)


def send(
    session: Session,
    text: Annotated[str, typer.Argument(help="The message; - reads it from standard input.")],
    data_dir: DataDir = None,
    address: Address = None,
    id: Annotated[str | None, typer.Option(help="Message id: the same id again is the same message.")] = None,
    mode: Annotated[
        str, typer.Option(help="While a turn runs: collect, followup, steer or interrupt.", show_default=True)
    ] = "collect",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the reply.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the reply.", min=0)] = 3600,
    reply_to: Annotated[str, typer.Option(help="Also deliver the reply to this address, e.g. file:out.")] = "",
    attach: Annotated[list[Path] | None, typer.Option(help="Attach a file (repeatable).")] = None,
    as_json: Json = False,
) -> None:
    """Send one message to a running service and print the reply.

    Exit: 0 answered (or accepted, with --no-wait), 1 not answered, 4 no service, 5 a tool call waits for
    a person (see 'approvals'); the message stays accepted, and the same --id waits for its reply again.
    """
    settings = settings_from(data_dir, address)
    text = sys.stdin.read() if text == "-" else text
    ok = run(
        _send(settings, session, text, id or uuid.uuid4().hex, mode, wait, timeout, reply_to, attach or [], as_json)
    )
    if not ok:
        raise typer.Exit(1)


async def _send(
    settings: Settings,
    session: str,
    text: str,
    id: str,
    mode: str,
    wait: bool,
    timeout_s: float,
    reply_to: str,
    attach: list[Path],
    as_json: bool,
) -> bool:
    from agent_session.asking import reply_unless_it_asks
    from agent_session.ops.attach import attached
    from channels import load_channel
    from channels.cli import show

    if reply_to and not settings.gateway.url:
        channel, _, place = reply_to.partition(":")
        load_channel(channel, settings).check_place(place)
    async with attached(settings, channel="cli", start=False) as client:
        receipt = await client.send(session, text, id=id, mode=mode, reply_address=reply_to, attachments=attach)
        if not wait:
            print_json(receipt) if as_json else print(receipt.id)
            return True
        reply = await reply_unless_it_asks(client, session, receipt.id, timeout_s=timeout_s)
        print_json(reply) if as_json else show(reply)
        return reply.ok


def run_once(
    text: Annotated[str, typer.Argument(help="The message; - reads it from standard input.")],
    session: Annotated[str, typer.Option("--session", help="Keep the transcript under this key.")] = "",
    stdin: Annotated[
        bool | None,
        typer.Option("--stdin/--no-stdin", help="Add standard input to the message (default: if piped in)."),
    ] = None,
    data_dir: DataDir = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Run one message as a workflow of its own and print the answer.

    What is piped in is added to the message: cat log | agent-session run "why?". With --session the
    transcript is kept, so memory persists from run to run; a key whose session is live is refused.
    Exit: 0 answered, 1 not answered, 5 a tool call waits for a person (see 'approvals').
    """
    from agent_session.terminal.standard_input import piped, with_input

    settings = settings_from(data_dir, address)
    text = sys.stdin.read() if text == "-" else with_input(text, piped(stdin, say))
    if not run(_run_once(settings, text, session, as_json)):
        raise typer.Exit(1)


async def _run_once(settings: Settings, text: str, session: str, as_json: bool) -> bool:
    from agent_session.asking import reply_unless_it_asks
    from agent_session.ops.attach import local
    from agent_session.terminal.spinner import with_spinner
    from channels.cli import show

    if settings.gateway.url:
        raise ValueError(f"'run' works on this machine, and gateway.url names {settings.gateway.url}: use 'send'")
    async with AsyncExitStack() as stack:
        service = local(settings, channel="cli", start=True)
        client = await with_spinner("starting the service", stack.enter_async_context(service))
        receipt = await client.start_once(text, session)
        waiting = reply_unless_it_asks(client, receipt.session, receipt.id, timeout_s=7 * 86_400)
        reply = await with_spinner("working", waiting)
        print_json(reply) if as_json else show(reply)
        return reply.ok


def cancel(session: Session, data_dir: DataDir = None, address: Address = None) -> None:
    """Cancel the running turn of a session. Exit: 0 asked, 1 no turn runs, 3 no such session."""
    settings = settings_from(data_dir, address)

    async def work() -> str:
        from agent_session.ops.attach import attached

        async with attached(settings, channel="cli", start=False) as client:
            return await client.cancel(session)

    turn = run(work())
    if not turn:
        say(f"no turn runs in session {session!r}")
        raise typer.Exit(1)
    say(f"cancelling {turn}")


def close(session: Session, data_dir: DataDir = None, address: Address = None) -> None:
    """Close a session once nothing is open in it. Its transcript stays; a new message starts it again."""
    settings = settings_from(data_dir, address)

    async def work() -> None:
        from agent_session.ops.attach import attached

        async with attached(settings, channel="cli", start=False) as client:
            await client.close(session)

    run(work())
    say(f"session {session!r} closes")

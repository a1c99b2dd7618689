"""Commands that look: status, sessions, history, watch."""

import asyncio
import sys
import time
from typing import Annotated, Any

import typer

from agent_session.cli.common import Address, DataDir, Json, Session, print_json, run, settings_from
from agent_session.domain.status_words import status_lines
from agent_session.settings import Settings
from agent_session.transcript.lines import Line, calls_of
from agent_session.transcript.reader import BadLine

STATES_SHOWN = 50  #: sessions that are asked for their state; the rest is listed


def status(
    session: Annotated[str | None, typer.Argument(help="The session's key; without it, all that live.")] = None,
    data_dir: DataDir = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show what a session is doing, without waiting for its turn.

    Exit: 0 shown, 3 no such session, 4 no service.
    """
    settings = settings_from(data_dir, address)
    if session is None:
        run(_sessions(settings, as_json, False, states=True))
    else:
        run(_status(settings, session, as_json))


async def _status(settings: Settings, session: str, as_json: bool) -> None:
    from agent_session.ops.attach import attached

    async with attached(settings, channel="cli", start=False) as client:
        found = await client.status(session)
    if as_json:
        print_json(found)
    else:
        print("\n".join(status_lines(found, int(time.time()))))


def sessions(
    data_dir: DataDir = None,
    address: Address = None,
    all: Annotated[bool, typer.Option("--all", help="Also those that are closed.")] = False,
    as_json: Json = False,
) -> None:
    """List sessions, those that need a person first. Exit: 0 listed, 4 no service."""
    run(_sessions(settings_from(data_dir, address), as_json, all))


async def _sessions(settings: Settings, as_json: bool, all: bool, *, states: bool = False) -> None:
    from agent_session.client_types import SessionError, SessionRow
    from agent_session.ops.attach import attached

    async with attached(settings, channel="cli", start=False) as client:
        rows = await client.sessions(all=all)
        shown = rows[:STATES_SHOWN] if states else []
        asked = await asyncio.gather(*(client.status(row.key) for row in shown), return_exceptions=True)
    if as_json:
        print_json(rows)
        return
    unasked: list[SessionRow] = []
    for row, status in zip(shown, asked, strict=True):
        if isinstance(status, SessionError):  # it has ended meanwhile, or its key cannot be asked for by this way
            unasked.append(row)
        elif isinstance(status, BaseException):
            raise status
        else:
            print(status_lines(status, int(time.time()))[0])
    for row in [*unasked, *rows[len(asked) :]]:
        state = "live" if row.running else "closed"
        needs = f" · needs a person: {row.needs}" if row.needs else ""
        print(f"{row.key} · {state} · since {time.strftime('%Y-%m-%d %H:%M', time.localtime(row.started_s))}{needs}")
    if not rows:
        print("no sessions", file=sys.stderr)


def history(
    session: Session,
    data_dir: DataDir = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSONL lines as they are.")] = False,
) -> None:
    """Show a session's transcript, from the volume; no service need run.

    Exit: 0 shown, 3 no such transcript.
    """
    run(_history(settings_from(data_dir), session, follow, as_json))


async def _history(settings: Settings, session: str, follow: bool, as_json: bool) -> None:
    from agent_session.ops.attach import looking

    async with looking(settings) as transcripts:
        async for raw, line in transcripts.follow(session) if follow else transcripts.lines(session):
            _show(raw, line, as_json)
            if follow:
                sys.stdout.flush()


def _show(raw: bytes, line: Line | BadLine, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(raw.decode("utf-8", "replace"))
    elif isinstance(line, BadLine):
        print(f"  (line {line.number} at byte {line.offset} is damaged and was skipped)")
    else:
        text = readable(line)
        if text:
            print(text)


def readable(line: dict[str, Any]) -> str:
    """One transcript line for a person."""
    role, content = line.get("role"), str(line.get("content", ""))
    if role == "user":
        return f"\n[{line.get('n')}] {line.get('sender') or line.get('principal') or line.get('channel')}: {content}"
    if role == "assistant":
        calls = [f"  ⚙ {call['name']} {call.get('args', '')}" for call in calls_of(line)]
        return "\n".join([*([content] if content else []), *calls])
    if role == "tool":
        return f"  = {line.get('outcome')}: {content.rstrip()}"
    event = line.get("event")
    if event == "ended" and line.get("outcome") != "answered":
        return f"  ({line.get('outcome')}) {content}".rstrip()
    if event == "gap":
        return f"  (lines {line.get('from')} to {line.get('to')} are lost)"
    if event == "approval":
        return f"  (call {line.get('call')}: {line.get('decision')} by {line.get('principal')})"
    return ""


def watch(session: Session, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Watch a session live: tokens, tools and their output, retries. Begins with what the running turn has shown.

    Ends with the service. Exit: 0 ended, 4 no service here.
    """
    run(_watch(settings_from(data_dir), session, as_json))


async def _watch(settings: Settings, session: str, as_json: bool) -> None:
    from agent_session.live.events import DELTA, TOOL_OUTPUT, encode
    from agent_session.ops.attach import looking

    async with looking(settings) as transcripts:
        try:
            async for event in transcripts.events(session, replay=True):
                if as_json:
                    sys.stdout.write(encode(event).decode())
                elif event.kind in (DELTA, TOOL_OUTPUT):
                    sys.stdout.write(event.text)
                else:
                    words = (event.kind.replace("_", " "), event.tool, event.outcome, event.text)
                    print(f"\n[{event.turn}/{event.step}] {' '.join(word for word in words if word)}")
                sys.stdout.flush()
        except BrokenPipeError:  # a reader like `head` has left
            raise
        except OSError as error:
            from agent_session.connection import Unreachable  # slow

            if isinstance(error, Unreachable):
                raise
            if settings.live.url.get_secret_value():
                raise Unreachable(f"the live bus (live.url) cannot be reached: {error}") from None
            where = "start 'agent-session up' there, or set live.url as it is set for it"
            raise Unreachable(f"nothing publishes progress of {settings.data_dir}: {where}") from None

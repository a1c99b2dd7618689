"""Commands about tool calls that wait for a person: approvals list, allow, deny."""

from typing import TYPE_CHECKING, Annotated

import typer

from agent_session.cli.common import Address, DataDir, Json, Session, print_json, run, say, settings_from
from agent_session.domain.authority import ALLOW, DENY
from agent_session.domain.cards import card
from agent_session.domain.status import WAITING_APPROVAL

if TYPE_CHECKING:
    from agent_session.remote.sessions import Sessions
    from agent_session.settings import Settings

approvals = typer.Typer(help="Tool calls that wait for a person: list, allow, deny.", no_args_is_help=True)
Call = Annotated[str, typer.Argument(help="The call's id; not needed when only one waits.")]
SESSIONS_ASKED = 200


@approvals.command("list")
def list_(
    session: Annotated[str | None, typer.Argument(help="The session's key; without it, all that live.")] = None,
    data_dir: DataDir = None,
    address: Address = None,
    as_json: Json = False,
) -> None:
    """Show what waits: the whole command, and why it asks. Exit: 0 shown, 3 no such session, 4 no service."""
    settings = settings_from(data_dir, address)

    async def work() -> list[dict[str, str]]:
        from agent_session.ops.attach import attached

        async with attached(settings, channel="cli", start=False) as client:
            keys = [session] if session else [row.key for row in await client.sessions() if row.needs == "approval"]
            return [call for key in keys[:SESSIONS_ASKED] for call in await _waiting(client, key)]

    calls = run(work())
    if as_json:
        print_json(calls)
        return
    for call in calls:
        print(f"{call['session']} · {card(call)}")
        if call["pattern"]:
            print(f"  --always allows for this session: {call['pattern']}")
    if not calls:
        say("no call waits")


@approvals.command()
def allow(
    session: Session,
    call: Call = "",
    always: Annotated[bool, typer.Option("--always", help="Also allow calls like it, for this session.")] = False,
    pattern: Annotated[str, typer.Option(help="The pattern for --always, when not the suggested one.")] = "",
    data_dir: DataDir = None,
    address: Address = None,
) -> None:
    """Allow one call, exactly as it is shown. Exit: 0 decided, 1 no such call waits, 3 no such session."""
    _decide(settings_from(data_dir, address), session, call, ALLOW, always=always or bool(pattern), pattern=pattern)


@approvals.command()
def deny(
    session: Session,
    call: Call = "",
    reason: Annotated[str, typer.Option(help="Why, for the model to read.")] = "",
    data_dir: DataDir = None,
    address: Address = None,
) -> None:
    """Deny one call. Exit: 0 decided, 1 no such call waits, 3 no such session."""
    _decide(settings_from(data_dir, address), session, call, DENY, reason=reason)


async def _waiting(client: "Sessions", key: str) -> list[dict[str, str]]:
    status = await client.status(key)
    waits = status.state == WAITING_APPROVAL
    return [{"session": key, **call} for call in (client.waiting_calls(key, status) if waits else [])]


def _decide(
    settings: "Settings",
    session: str,
    call: str,
    decision: str,
    *,
    reason: str = "",
    always: bool = False,
    pattern: str = "",
) -> None:
    async def work() -> str:
        from agent_session.ops.attach import attached

        async with attached(settings, channel="cli", start=False) as client:
            waiting = await _waiting(client, session)
            found = [one for one in waiting if one["call"] == call] if call else waiting
            if len(found) != 1:
                ids = ", ".join(one["call"] for one in waiting) or "none"
                return f"name one call: those that wait in session {session!r} are {ids}"
            chosen = (pattern or found[0]["pattern"]) if always else ""
            if always and not chosen:
                return "this call has no pattern that could be allowed: allow it alone, without --always"
            await client.resolve(session, found[0]["call"], found[0]["digest"], decision, reason, pattern=chosen)
            return ""

    problem = run(work())
    if problem:
        say(problem)
        raise typer.Exit(1)

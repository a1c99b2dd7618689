"""The command `doctor`: looks at everything that a service needs, and says what to do. Prints; `ops/doctor` looks."""

import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_session.cli.common import Address, DataDir, Json, print_json, run, say

if TYPE_CHECKING:
    from agent_session.ops.doctor.findings import Finding

STYLES = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "bold red"), "skipped": ("–", "dim")}


def doctor(
    directory: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="With --volume: the directory; else the data directory.")
    ] = None,
    data_dir: DataDir = None,
    address: Address = None,
    volume: Annotated[
        bool, typer.Option("--volume", help="Only the volume: locks, sync, rename, two writers.")
    ] = False,
    with_peer: Annotated[
        bool, typer.Option("--with-peer", help="With --volume: against the same command on another host.")
    ] = False,
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait for the other host.", min=1, max=3600)] = 120,
    model: Annotated[bool, typer.Option("--model", help="Also ask the model, which costs a few tokens.")] = False,
    as_json: Json = False,
) -> None:
    """Look at everything that a service needs, and say what to do where something is wrong.

    Changes nothing but a scratch folder on the volume, which it removes. Works when nothing runs. Exit: 0 all is well
    or there are warnings, 1 something failed.
    """
    if (directory or with_peer) and not volume:
        raise typer.BadParameter("a directory and --with-peer belong to --volume: agent-session doctor --volume DIR")
    from agent_session.ops.doctor.examine import Asked, examine, examine_volume
    from agent_session.settings import data_dir_of

    if volume:
        root = (directory or data_dir_of(data_dir)).expanduser().absolute()
        if with_peer:
            say(f"start the same on another host that mounts {root}; waiting {wait:g} s for it")
        findings = examine_volume(root, wait_s=wait if with_peer else None)
    else:
        findings = examine(Asked(data_dir, address, model))
    found = run(_told(findings, as_json))
    if as_json:
        print_json({"ok": not _failed(found), "findings": [asdict(one) for one in found]})
    if _failed(found):
        raise typer.Exit(1)


def _failed(found: "list[Finding]") -> bool:
    return any(one.result == "failed" for one in found)


async def _told(findings: "AsyncIterator[Finding]", as_json: bool) -> "list[Finding]":
    """Each as it comes; in the end how many of what."""
    show = _nothing if as_json else _on_a_terminal() if sys.stdout.isatty() else _plain
    found: list[Finding] = []
    async for one in findings:
        found.append(one)
        show(one)
    if not as_json:
        counts = ((sum(one.result == result for one in found), result) for result in STYLES)
        print("\n" + ", ".join(f"{count} {result}" for count, result in counts if count))
    return found


def _nothing(one: "Finding") -> None:
    return


def _plain(one: "Finding") -> None:
    todo = f" · do: {one.todo}" if one.todo else ""
    print(f"{one.result} · {one.check} · {one.words}{todo}", flush=True)


def _on_a_terminal() -> "Callable[[Finding], None]":
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)

    def show(one: "Finding") -> None:
        mark, style = STYLES[one.result]
        line = Text.assemble((f"{mark} ", style), (f"{one.check}  ", "bold"), one.words)
        if one.todo:
            line.append(f"\n    → {one.todo}", style if one.result != "skipped" else "dim")
        console.print(line, soft_wrap=True)

    return show

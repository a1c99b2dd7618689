"""`config edit`: an editor on a copy of config.toml, checked, then put in its place in one step.

What stands in config.toml is either the former text or a whole new one that the service can use. It
never creates a data directory, and what somebody wrote is never thrown away.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import typer

from agent_session.cli.common import say
from agent_session.paths import folder, write_whole
from agent_session.settings import CONFIG_FILE, BadSettings
from agent_session.settings_tree import check_file, template
from agent_session.transcript.volume import Volume

EDITORS = ("nano", "vi")
CANNOT_BE_USED = 2


def edit_config(data_dir: Path) -> None:
    """Edit, check, save. Errors: NotAVolume, ValueError, OSError; typer.Exit with the command's code."""
    if not data_dir.exists():
        say(f"error: {data_dir} does not exist yet: 'agent-session init' makes it, and so does 'agent-session up'")
        raise typer.Exit(1)
    Volume(data_dir).create_or_check()  # it exists, so this only checks: an empty mount point is no place to write to
    config = (data_dir / CONFIG_FILE).resolve()  # a link is the operator's: what it points to is edited
    editor = find_editor()
    before = config.read_bytes() if config.exists() else None
    first = template().encode() if before is None else before
    copy = _copy_of(first, config.parent)
    while True:
        _run(editor, copy, first)
        text = copy.read_bytes()
        if text == first:
            copy.unlink()
            say(f"unchanged: {config}" if before is not None else f"nothing was changed, so {config} was not made")
            return
        problem = _problem(copy, data_dir)
        if not problem:
            break
        say(f"error: {problem}")
        if not _again():
            say(f"{config} is as it was; what you wrote is kept in {copy}")
            raise typer.Exit(CANNOT_BE_USED)
    _save(config, before, text, copy)


def find_editor() -> list[str]:
    """$VISUAL, else $EDITOR, else one that is there. Errors: ValueError."""
    for variable in ("VISUAL", "EDITOR"):
        named = shlex.split(os.environ.get(variable, ""))
        if named:
            if not shutil.which(named[0]):
                raise ValueError(f"there is no command {named[0]!r}, which {variable} names as the editor: set another")
            return named
    found = next((path for name in EDITORS if (path := shutil.which(name))), None)
    if not found:
        raise ValueError("there is no editor here: set EDITOR to one, e.g. EDITOR=nano")
    return [found]


def _copy_of(text: bytes, where: Path) -> Path:
    """A private copy (0600) beside the file; its name ends as editors like it."""
    descriptor, name = tempfile.mkstemp(prefix=f".{CONFIG_FILE}.edit-", suffix=".toml", dir=where)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    return Path(name)


def _run(editor: list[str], copy: Path, first: bytes) -> None:
    """Errors: typer.Exit when the editor failed: it may mean that nothing should be saved."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)  # Ctrl-C is for the editor
    try:
        code = subprocess.run([*editor, str(copy)], check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
    if code:
        kept = ""
        if copy.read_bytes() == first:
            copy.unlink()
        else:
            kept = f"; what you wrote is kept in {copy}"
        say(f"error: {editor[0]} ended with code {code}, so nothing was saved{kept}")
        raise typer.Exit(1)


def _problem(copy: Path, data_dir: Path) -> str:
    """What is wrong with it, empty when nothing is; said of config.toml, which the person knows."""
    try:
        check_file(copy, data_dir)
    except BadSettings as error:
        return str(error).replace(str(copy), CONFIG_FILE)
    return ""


def _again() -> bool:
    """Ask, where there is somebody to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print("edit again? [Y/n] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")


def _save(config: Path, before: bytes | None, text: bytes, copy: Path) -> None:
    """Put the new text in its place, the former beside it. Errors: typer.Exit, OSError."""
    if (config.read_bytes() if config.exists() else None) != before:
        say(f"error: {config} was changed by somebody else meanwhile; what you wrote is kept in {copy}")
        raise typer.Exit(1)
    with folder(config.parent) as handle:
        if before is not None:
            write_whole(handle, f"{config.name}.bak", before)
        write_whole(handle, config.name, text)
    copy.unlink()
    say(f"saved {config}; it takes effect when the service starts again ('config show' prints what is in force)")

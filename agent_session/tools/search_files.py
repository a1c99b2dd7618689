"""The search_files tool: a regular expression in the files of the workspace.

ripgrep does it when there is one, else `search_child.py`; both run in a limited child (I11) that starts in
a folder opened through `agent_session.paths`, and print the same. No argument of the model is an option.
It must not follow a link, nor search what `path` does not name; where there is Landlock, ripgrep cannot,
not even when a command swaps a folder for a link meanwhile.
"""

import json
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from typing import IO, Annotated

from agent_session.paths import FOLDER_FLAGS, TooLarge, UnsafePath, folder, open_regular, read_regular
from agent_session.tools.base import ToolContext, ToolError, tool
from agent_session.tools.limited import Finished, LimitedError, Limits, run_limited
from agent_session.tools.limited_start import NOT_STARTED
from agent_session.tools.search_globs import Only, only, plain_names
from agent_session.tools.workspace import components, in_folder, is_artifact, path_of, with_file

CHILD = Path(__file__).parent / "search_child.py"
LIMITS = Limits(wall_s=30.0, cpu_s=15, output_bytes=1024 * 1024)
MOST_RESULTS = 1_000
PATTERN_CHARS = 4_096
LINE_CHARS = 300
FILE_BYTES = 16 * 1024 * 1024  #: larger files are not searched
IGNORE_BYTES = 32 * 1024
OPTIONS = (
    "--no-config", "--no-messages", "--no-ignore-messages", "--no-follow", "--no-mmap", "--threads=1",
    "--no-require-git", "--no-ignore-parent", "--no-ignore-global", "--no-ignore-exclude", "--color=never",
    "--no-heading", "--with-filename", "--line-number", "--no-column", "--null", "--sort=path",
    "--max-columns-preview", f"--max-columns={4 * LINE_CHARS}", f"--max-filesize={FILE_BYTES}",
)  # fmt: skip


class Place:
    """What is searched: a descriptor of a folder or file, closed when nobody holds this any more (also
    when the call was cancelled while a thread opened it)."""

    def __init__(self, handle: int, is_file: bool, above: list[str]) -> None:
        self.handle, self.is_file = handle, is_file
        self.above = above  #: what the ignore files of the folders above say of plain names

    def __del__(self) -> None:
        os.close(self.handle)


@tool(effects="none", timeout_s=60, subject=path_of)
async def search_files(
    ctx: ToolContext,
    pattern: Annotated[str, "A regular expression; (?i) at its start ignores case."],
    path: Annotated[str, "A folder or file below the workspace, or artifacts/<call id>."] = ".",
    glob: Annotated[str, "Only files like this, below path: *.py, src/**/*.{js,ts}; !*.md for all but these."] = "",
    max_results: Annotated[int, "How many lines to show at most, up to 1000."] = 200,
) -> str:
    """Search the lines of text files with a regular expression. Hidden files and those that .gitignore or
    .ignore name are left out, unless `path` names them; so are those over 16 MiB. Each line shown is
    `path:line: text`."""
    if not pattern or len(pattern) > PATTERN_CHARS or "\0" in pattern or "\n" in pattern:
        raise ToolError(f"the pattern must be one line of 1 to {PATTERN_CHARS} characters; lines are searched singly")
    files = only(glob)
    parts = components(ctx, path)
    if is_artifact(parts):
        place = await with_file(ctx, parts, lambda file: Place(os.dup(file.fileno()), True, []), path=path)
    else:
        place = await in_folder(ctx, parts[:-1], lambda handle: _open(handle, ctx, parts), path=path)
    ripgrep = shutil.which("rg")
    try:
        done = await _with_ripgrep(ripgrep, pattern, place, files) if ripgrep else None
        if done is None or done.code == NOT_STARTED:  # it cannot be run here: do without it
            done = await _with_python(pattern, place, files)
    except LimitedError as error:
        raise ToolError(f"the search {error}: give a simpler pattern, or a smaller path or glob") from None
    if done.code not in (0, 1) and not done.output and done.errors.strip():
        raise ToolError(f"this cannot be searched: {done.errors.strip()}")
    return _shown(
        done, "/".join(parts), place.is_file, max(1, min(max_results, MOST_RESULTS)), "/".join(parts) or "the workspace"
    )


def _open(handle: int, ctx: ToolContext, parts: list[str]) -> Place:
    if not parts:
        return Place(os.dup(handle), False, [])
    name = parts[-1]
    if not stat.S_ISDIR(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
        return Place(open_regular(handle, name, os.O_RDONLY), True, [])
    above: list[str] = []
    for depth in range(len(parts)):
        with folder(ctx.workspace, *parts[:depth]) as higher:
            above += _ignored_by(higher)
    return Place(os.open(name, FOLDER_FLAGS, dir_fd=handle), False, above)


def _ignored_by(handle: int) -> list[str]:
    found: list[str] = []
    for name in (".gitignore", ".ignore"):
        try:
            text = read_regular(handle, name, IGNORE_BYTES).decode("utf-8", "replace")
        except (OSError, UnsafePath, TooLarge):
            continue
        found += plain_names(text)
    return found


def _scratch() -> IO[bytes]:
    """Errors: ToolError where no temporary file can be made."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise ToolError(f"no temporary file can be made on this worker: {error.strerror or error}") from None


async def _with_ripgrep(ripgrep: str, pattern: str, place: Place, files: Only) -> Finished:
    """Our rules come as ignore files, the weaker first: as `--glob` they would overrule the workspace's."""
    command = [os.path.realpath(ripgrep), *OPTIONS]
    if place.is_file:
        return await run_limited([*command, "-e", pattern, "-"], given=place.handle, limits=LIMITS)
    with _scratch() as first, _scratch() as second:
        for file, lines in ((first, files.ignore_lines()), (second, place.above)):
            file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
            file.flush()
            file.seek(0)
            command.append(f"--ignore-file=/dev/fd/{file.fileno()}")
        return await run_limited(
            [*command, *files.ripgrep_options(), "-e", pattern, "./"],
            given=b"", limits=LIMITS, folder=place.handle, keep=(first.fileno(), second.fileno()), confined=True,
        )  # fmt: skip


async def _with_python(pattern: str, place: Place, files: Only) -> Finished:
    search = {
        "pattern": pattern, "is_file": place.is_file, "above": place.above, "wanted": files.wanted,
        "unwanted": files.unwanted, "chars": 4 * LINE_CHARS, "bytes": FILE_BYTES,
    }  # fmt: skip
    command = [sys.executable, "-I", str(CHILD), json.dumps(search)]
    if place.is_file:
        return await run_limited(command, given=place.handle, limits=LIMITS)
    return await run_limited(command, given=b"", limits=LIMITS, folder=place.handle)


def _shown(done: Finished, below: str, is_file: bool, most: int, where: str) -> str:
    """Both engines print `path NUL line:text`."""
    rows: list[str] = []
    for record in done.output.decode("utf-8", "replace").split("\n"):
        name, mark, rest = record.partition("\0")
        number, colon, text = rest.partition(":")
        if mark and colon and number.isdigit():
            name = below if is_file else "/".join(filter(None, (below, name.removeprefix("./"))))
            text = text.rstrip("\r")
            rows.append(f"{name}:{number}: {text[:LINE_CHARS]}{'…' if len(text) > LINE_CHARS else ''}")
    if not rows:
        return f"No line matches in {where}."
    if len(rows) > most or done.cut:
        rows = [
            *rows[:most],
            f"… cut: there are more than {min(most, len(rows))} matches; narrow the pattern, path or glob",
        ]
    return "\n".join(rows)

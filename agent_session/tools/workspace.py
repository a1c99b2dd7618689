"""How file tools reach the session's workspace: relative to a directory handle, nothing followed (I11)."""

import asyncio
import os
import re
import stat
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

from agent_session.paths import TooLarge, UnsafePath, folder, open_regular, parts_of, write_whole
from agent_session.sandbox.instructions import is_held
from agent_session.settings import ToolsSettings
from agent_session.tools.base import ToolContext, ToolError

T = TypeVar("T")
SANDBOX_WORKSPACE = "/workspace"
ARTIFACT = re.compile(r"t-[0-9a-f]{16}-[0-9]{1,6}-[0-9]{1,6}")  #: a call id, which names its whole result


def components(ctx: ToolContext, path: str) -> list[str]:
    """The path below the workspace; an absolute path into the workspace is taken as what it means.
    Errors: ToolError."""
    for root in (str(ctx.workspace), SANDBOX_WORKSPACE):  # as the shell tool shows it, without and with a sandbox
        if path == root or path.startswith(root + "/"):
            path = path[len(root) :].lstrip("/") or "."
            break
    try:
        return parts_of(path)
    except UnsafePath as error:
        raise ToolError(str(error)) from None


async def in_folder(
    ctx: ToolContext, below: list[str], work: Callable[[int], T], *, path: str, create: bool = False
) -> T:
    """Run `work` in a thread with a handle on a folder of the workspace. `path` is what the model asked
    for. Errors: ToolError."""

    def run() -> T:
        with folder(ctx.workspace, *below, create=create) as handle:
            return work(handle)

    return await asyncio.to_thread(_said, run, path)


async def with_file(ctx: ToolContext, parts: list[str], work: Callable[[BinaryIO], T], *, path: str) -> T:
    """Run `work` in a thread with an open file, to read: one of the workspace, or else the whole result of
    a call (`artifacts/<call id>`). Errors: ToolError."""

    def read(root: Path, below: list[str]) -> T:
        with folder(root, *below) as handle:
            descriptor = open_regular(handle, parts[-1], os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            return work(file)

    def run() -> T:
        if is_artifact(parts):
            with suppress(FileNotFoundError, UnsafePath):  # the workspace has no such file of its own
                return read(ctx.workspace, parts[:-1])
            return read(ctx.artifacts, [])
        return read(ctx.workspace, parts[:-1])

    return await asyncio.to_thread(_said, run, path)


def is_artifact(parts: list[str]) -> bool:
    """Whether a path has the form of one that names the whole result of a call."""
    return len(parts) == 2 and parts[0] == "artifacts" and ARTIFACT.fullmatch(parts[1]) is not None


def _said(run: Callable[[], T], path: str) -> T:
    """What goes wrong with a path, said in the model's own words for it."""
    try:
        return run()
    except FileNotFoundError:
        raise ToolError(f"{path} does not exist") from None
    except (UnsafePath, TooLarge, UnicodeError) as error:
        raise ToolError(str(error)) from None
    except OSError as error:
        raise ToolError(f"{path}: {os.strerror(error.errno or 0)}") from None


def replace_file(handle: int, name: str, data: bytes) -> None:
    """Write the file whole, with the permissions that it had. Errors: ToolError."""
    try:
        mode = os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG | 0o644
    if not stat.S_ISREG(mode):
        raise ToolError(f"{name} is not a regular file: it is left as it is")
    write_whole(handle, name, data, mode=mode & 0o777)  # never setuid, whatever a command made of it


def path_of(arguments: dict[str, Any]) -> str:
    """The path of a call as a pattern is matched with it: `./a//b` is `a/b`."""
    path = str(PurePosixPath(str(arguments.get("path", ""))))
    return path.removeprefix(SANDBOX_WORKSPACE + "/") if path != SANDBOX_WORKSPACE else "."


def asks_for_instruction_file(arguments: dict[str, Any], settings: ToolsSettings) -> str:
    """Why a person must allow this write: it would change what steers the agent. In doubt (an absolute
    path, `..`, another spelling that some file system takes for the same name) one is asked."""
    pure = PurePosixPath(path_of(arguments))
    names = pure.parts if pure.is_absolute() or ".." in pure.parts else pure.parts[:1]
    known = {_folded(name) for name in settings.instruction_files}
    found = [name for name in names if _folded(name) in known]
    return f"{found[0]} is an instruction file: what stands in it steers the agent" if found else ""


async def no_command_runs(ctx: ToolContext, path: str) -> None:
    """An instruction file that is replaced while a command runs would lose its protection there. Errors:
    ToolError."""
    named = asks_for_instruction_file({"path": path}, ctx.settings)
    if named and await asyncio.to_thread(is_held, str(ctx.workspace)):
        raise ToolError(f"{path} cannot be written while a command runs in this workspace: stop the jobs first")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()

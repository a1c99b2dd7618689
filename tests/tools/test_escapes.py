"""Ways out of the workspace, each tried with every file tool (I11). The shell's own are in test_sandbox.py."""

import asyncio
import os
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agent_session.tools import ToolError

CANARY = "canary-secret"

#: how each tool is asked for one path
TOOLS: dict[str, Callable[[Any, str], Coroutine[Any, Any, str]]] = {
    "read_file": lambda call, path: call("read_file", path=path),
    "list_dir": lambda call, path: call("list_dir", path=path),
    "search_files": lambda call, path: call("search_files", pattern="canary", path=path),
    "write_file": lambda call, path: call("write_file", path=path, text="overwritten"),
    "edit_file": lambda call, path: call("edit_file", path=path, old=CANARY, new="overwritten"),
}
PATHS = (
    "../config.toml", "a/../../config.toml", "./../config.toml", "/etc/passwd", "/proc/self/environ",
    "/proc/1/environ", "{data}/config.toml", "{data}/live.sock", "{data}/mac.key", "{data}/other/workspace/secret",
    "/workspace/../config.toml", "{workspace}/../config.toml", "link", "folder-link/config.toml", "proc-link",
    "hard\0null", "socket", "fifo",
)  # fmt: skip


@pytest.fixture
def traps(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, bytes]:
    """Secrets around the workspace, and links to them in it. Returns what must stay as it is."""
    data = workspace.parent
    monkeypatch.setenv("ANTHROPIC_API_KEY", CANARY)
    secrets = [data / "config.toml", data / "live.sock", data / "mac.key", data / "other" / "workspace" / "secret"]
    for path in secrets:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CANARY)
    (workspace / "link").symlink_to(data / "config.toml")
    (workspace / "folder-link").symlink_to(data)
    (workspace / "proc-link").symlink_to("/proc/self/environ")
    os.mkfifo(workspace / "fifo")
    os.mkfifo(workspace / "socket")
    return {path: path.read_bytes() for path in secrets}


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("tool", TOOLS)
async def test_no_path_leads_out(call: Any, workspace: Path, traps: dict[Path, bytes], tool: str, path: str) -> None:
    where = path.format(data=workspace.parent, workspace=workspace)
    try:
        said = await asyncio.wait_for(TOOLS[tool](call, where), 20)  # a FIFO must hold up nobody
    except ToolError as error:
        said = str(error)
    assert CANARY not in said
    assert "root:x:0" not in said
    assert {kept: kept.read_bytes() for kept in traps} == traps
    assert b"overwritten" not in b"".join(one.read_bytes() for one in workspace.parent.glob("*.toml"))


@pytest.mark.parametrize("tool", TOOLS)
async def test_a_folder_that_becomes_a_link_between_check_and_use_leads_nowhere(
    call: Any, workspace: Path, traps: dict[Path, bytes], tool: str
) -> None:
    """The shell swaps the folder as fast as it can while the tool is called again and again."""
    inside, outside = workspace / "real", workspace.parent / "other"
    (inside / "workspace").mkdir(parents=True)
    (inside / "workspace" / "secret").write_text("harmless")
    swap = asyncio.create_task(asyncio.to_thread(_swap, workspace / "swing", inside, outside, stop := asyncio.Event()))
    try:
        for _ in range(150):
            try:
                said = await TOOLS[tool](call, "swing/workspace/secret" if tool != "list_dir" else "swing/workspace")
            except ToolError as error:
                said = str(error)
            assert CANARY not in said
    finally:
        stop.set()
        await swap
    assert {kept: kept.read_bytes() for kept in traps} == traps


def _swap(place: Path, inside: Path, outside: Path, stop: asyncio.Event) -> None:
    aside = place.with_name("aside")
    while not stop.is_set():
        try:
            os.rename(inside, place)
            os.rename(place, aside)
            os.symlink(outside, place)
            os.unlink(place)
            os.rename(aside, inside)
        except OSError:  # write_file makes a missing folder anew
            shutil.rmtree(place, ignore_errors=True)
            if aside.exists() and not inside.exists():
                os.rename(aside, inside)

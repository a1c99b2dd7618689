"""The first tools, called as the engine calls them."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_session.sandbox import confinement
from agent_session.settings import ToolsSettings, load_settings
from agent_session.tools import BadTool, ToolContext, ToolError, load_toolbox, tool
from tests.e2e.support import alive, command_of, descendants
from tests.support import until_true


async def test_what_is_written_can_be_read_and_listed(call: Any) -> None:
    await call("write_file", path="a/b/c.txt", text="héllo\n")
    assert await call("read_file", path="a/b/c.txt") == "héllo\n"
    assert await call("list_dir", path="a/b") == "c.txt  7"
    assert await call("list_dir") == "a/"


async def test_some_lines_of_a_file_can_be_read(call: Any) -> None:
    await call("write_file", path="f", text="one\ntwo\nthree\nfour")
    assert await call("read_file", path="f", first_line=2, last_line=3) == "two\nthree\n"
    assert await call("read_file", path="f", first_line=4) == "four"
    with pytest.raises(ToolError, match="4 lines"):
        await call("read_file", path="f", first_line=9)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "", ".", "a\0b"])
@pytest.mark.parametrize("name", ["read_file", "write_file"])
async def test_a_path_out_of_the_workspace_is_refused(call: Any, name: str, path: str) -> None:
    arguments = {"path": path, **({"text": "x"} if name == "write_file" else {})}
    with pytest.raises(ToolError):
        await call(name, **arguments)


async def test_a_binary_a_huge_and_a_missing_file_are_said(call: Any, tmp_path: Path) -> None:
    (tmp_path / "workspace" / "b").write_bytes(b"\0\1\2")
    (tmp_path / "workspace" / "h").write_bytes(b"x" * 300_000)
    for path, words in (("b", "binary"), ("h", "larger"), ("m", "does not exist")):
        with pytest.raises(ToolError, match=words):
            await call("read_file", path=path)


async def test_a_commands_exit_code_and_both_outputs_are_told(call: Any) -> None:
    assert await call("shell", command="echo out; echo err >&2; exit 3") == "out\nerr\n\n(exit code 3)"


async def test_output_is_capped_with_head_and_tail(call: Any) -> None:
    small = ToolsSettings.model_validate({"shell": {"output_bytes": 4096}})
    shown = await call("shell", tools=small, command="seq 1 100000")
    assert shown.startswith("1\n2\n")
    assert shown.endswith("99999\n100000\n")
    assert "bytes left out" in shown
    assert len(shown) < 80_000


async def test_a_command_at_its_time_out_is_killed_with_all_it_started(call: Any, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(ToolError, match="killed after 1 s"):
        await call("shell", command="echo begun; setsid sleep 4242 & sleep 4242", timeout_s=1)
    assert time.monotonic() - began < 60
    assert not any("sleep 4242" in command_of(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc"))))


async def test_what_a_command_leaves_behind_is_killed_when_it_ends(call: Any) -> None:
    began = time.monotonic()
    await call("shell", command="(setsid nohup sleep 4343 >/dev/null 2>&1 &) ; sleep 0.2; echo done")
    assert time.monotonic() - began < 60
    assert not any("sleep 4343" in command_of(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc"))))


async def test_without_the_linux_call_the_process_group_still_dies(call: Any, monkeypatch: Any) -> None:
    """The stated fallback of other systems: the launcher's pipe and the group."""
    from agent_session.sandbox import command

    monkeypatch.setenv("AGENT_SESSION_LAUNCHER_PLAIN", "1")
    monkeypatch.setattr(command, "ENVIRONMENT", (*command.ENVIRONMENT, "AGENT_SESSION_LAUNCHER_PLAIN"))
    with pytest.raises(ToolError, match="killed"):
        await call("shell", command="sleep 4444 & sleep 4444", timeout_s=1)
    assert not any("sleep 4444" in command_of(pid) for pid in map(int, filter(str.isdigit, os.listdir("/proc"))))


async def test_a_cancelled_command_is_killed(call: Any) -> None:
    task = asyncio.create_task(call("shell", command="sleep 4545"))

    async def runs() -> list[int]:
        found = [pid for pid in descendants(os.getpid()) if "sleep 4545" in command_of(pid)]
        return found if any(command_of(pid).startswith("sleep") for pid in found) else []

    running = await until_true(runs)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not any(alive(pid) for pid in running)


def test_a_tool_that_cannot_be_offered_says_why() -> None:
    async def no_types(ctx: ToolContext, what) -> str:  # type: ignore[no-untyped-def]
        """Do it."""
        return ""

    async def no_words(ctx: ToolContext) -> str:
        return ""

    async def no_schema(ctx: ToolContext, what: Callable[[], None]) -> str:
        """Do it."""
        return ""

    for function in (no_types, no_words, no_schema):
        with pytest.raises(BadTool, match=function.__name__):
            tool(effects="none")(function)


def test_a_schema_comes_from_the_signature(tmp_path: Path) -> None:
    box = load_toolbox(load_settings({"data_dir": tmp_path}), "offline")
    offered = {spec.name: spec for spec in box.offered()}
    assert {"read_file", "write_file", "list_dir", "shell"} <= set(offered)
    schema = offered["write_file"].schema
    assert schema["required"] == ["path", "text"]
    assert schema["properties"]["path"]["description"].startswith("Path below")
    assert offered["read_file"].description.startswith("Read a text file of the workspace")


def test_a_shell_without_a_sandbox_asks_before_each_command_and_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I9: fail closed, with any model; bare without asking only when a setting says so."""
    monkeypatch.setattr("agent_session.sandbox.confinement.why_no_sandbox", lambda: "bubblewrap is not installed")
    confinement._confinement.cache_clear()  # pyright: ignore[reportPrivateUsage]
    try:
        for model in ("offline", "anthropic:x"):
            box = load_toolbox(load_settings({"data_dir": tmp_path}), model)
            why = box.why_ask("shell", '{"command": "ls"}', ("shell",))
            assert "bubblewrap is not installed" in why
        bare = load_settings({"data_dir": tmp_path, "tools": {"shell": {"sandbox": "none"}}})
        assert load_toolbox(bare, "anthropic:x").why_ask("shell", '{"command": "ls"}', ("shell",)) == ""
        only = load_settings({"data_dir": tmp_path, "tools": {"shell": {"sandbox": "bubblewrap"}}})
        assert "shell" not in {spec.name for spec in load_toolbox(only, "offline").offered()}
    finally:
        confinement._confinement.cache_clear()  # pyright: ignore[reportPrivateUsage]

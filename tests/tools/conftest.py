"""Tools called as the engine calls them, in a workspace of their own."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent_session.settings import ToolsSettings, load_settings
from agent_session.tools import ToolContext, load_toolbox

Call = Callable[..., Awaitable[str]]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@pytest.fixture
def call(workspace: Path) -> Call:
    """Call a tool by name; the file it may touch is in `workspace`."""
    box = load_toolbox(load_settings({"data_dir": workspace.parent}), "offline")

    async def nothing() -> None:
        return

    unconfined = ToolsSettings.model_validate({"shell": {"sandbox": "none"}})

    async def send(address: str, text: str, files: object = ()) -> None:
        return

    async def run(name: str, tools: ToolsSettings | None = None, **arguments: Any) -> str:
        found = box.find(name)
        assert found is not None
        ctx = ToolContext(
            session="s",
            call="c",
            workspace=workspace,
            artifacts=workspace.parent / "artifacts",
            settings=tools or unconfined,
            model_name="offline",
            before_effect=nothing,
            send=send,
            on_output=lambda text: None,
        )
        return await found.function(ctx, **arguments)

    return run

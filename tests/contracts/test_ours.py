"""The contracts, kept by what we ship ourselves."""

import json
from pathlib import Path

import pytest

from agent_session.models import load_model, offline
from agent_session.models.base import ToolSpec
from agent_session.settings import load_settings
from agent_session.tools import load_toolbox
from agent_session.transcript.volume import Volume
from channels import channel_names, load_channel
from tests.contracts.channel import check_channel
from tests.contracts.model import check_calls, check_model, check_refusal
from tests.contracts.tool import check_call, check_tool


def test_every_tool_keeps_the_contract(tmp_path: Path) -> None:
    box = load_toolbox(load_settings({"data_dir": tmp_path}), "offline")
    names = [spec.name for spec in box.offered()]
    assert {"read_file", "write_file", "edit_file", "list_dir", "shell"} <= set(names)
    for name in names:
        found = box.find(name)
        assert found is not None
        check_tool(found)


async def test_tools_with_effects_ask_before_they_act(tmp_path: Path) -> None:
    box = load_toolbox(load_settings({"data_dir": tmp_path}), "offline")
    tools = {name: found for name in ("write_file", "edit_file", "shell") if (found := box.find(name))}
    assert "5 bytes" in await check_call(tools["write_file"], tmp_path, path="f", text="hello")
    await check_call(tools["edit_file"], tmp_path, path="f", old="hello", new="good bye")
    assert (tmp_path / "workspace" / "f").read_text() == "good bye"
    assert await check_call(tools["shell"], tmp_path, command="echo x | tee -a g") == "x\n"
    assert (tmp_path / "workspace" / "g").read_text() == "x\n"


async def test_the_file_channel_keeps_the_contract(tmp_path: Path) -> None:
    Volume(tmp_path / "data").create()
    path = tmp_path / "data" / "channels" / "file" / "out.jsonl"

    def posted() -> list[str]:
        return [json.loads(line)["text"] for line in path.read_text().splitlines()] if path.exists() else []

    channel = load_channel("file", load_settings({"data_dir": tmp_path / "data"}))
    bad = ["", "../x", "a/b", ".hidden", "x" * 101, "a\n"]
    await check_channel(channel, place="out", bad_places=bad, posted=posted)


@pytest.mark.parametrize("name", channel_names())
def test_every_channel_goes_by_the_name_of_its_file(tmp_path: Path, name: str) -> None:
    assert load_channel(name, load_settings({"data_dir": tmp_path})).name == name


async def test_the_offline_model_keeps_the_contract(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path})
    model = load_model(settings)
    for text in ("hello", "remember blue", "what did I say?", "run ls", "sleep 0", "call nothing {"):
        await check_model(model, text)
    await check_calls(model, "read a/b", ToolSpec("read_file", "Read.", {}), path="a/b")
    check_refusal(offline, "offline:large", settings)

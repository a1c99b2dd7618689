"""What every tool promises: `check_tool(tool)` without calling it, `check_call` by calling it once."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from agent_session.settings import ToolsSettings
from agent_session.tools.base import Effects, Tool, ToolContext, ToolError

TYPES = {"string", "integer", "number", "boolean", "array", "object", "null"}
WRONG: dict[str, Any] = {
    "string": 7,
    "integer": "seven",
    "number": "seven",
    "boolean": "perhaps",
    "array": 7,
    "object": 7,
}


class NoLongerCurrent(Exception):
    """Stands for what the engine raises when another attempt has taken over."""


def check_tool(tool: Tool) -> None:
    """Its name, its words, its schema, its effects; and that bad arguments are refused in words."""
    assert tool.name.isidentifier(), "a name that every provider takes: letters, digits and _"
    assert len(tool.name) <= 64
    assert tool.description.strip(), "a docstring: it is what the model reads"
    assert tool.effects in get_args(Effects)
    assert tool.timeout_s >= 1
    check_schema(tool.schema)
    for arguments in ("{", "[]", "7", '{"no such argument": 1}'):
        check_refused(tool, arguments)
    for name in tool.schema.get("required", []):
        check_refused(tool, "{}", name)
    for name, schema in tool.schema["properties"].items():
        if schema.get("type") in WRONG:
            check_refused(tool, json.dumps({name: WRONG[schema["type"]]}), name)


def check_refused(tool: Tool, arguments: str, *words: str) -> None:
    with pytest.raises(ToolError) as refused:
        tool.parse(arguments)
    for word in (tool.name, *words):
        assert word in str(refused.value), f"{arguments}: the model must read what was wrong: {refused.value}"


def check_schema(schema: dict[str, Any]) -> None:
    """A JSON schema of an object that takes nothing else, as providers ask for it."""
    json.dumps(schema)
    assert schema["type"] == "object"
    assert schema.get("additionalProperties") is False, "an argument that is none must be refused"
    assert set(schema.get("required", [])) <= set(schema["properties"])
    for name, one in schema["properties"].items():
        assert name.isidentifier()
        check_value(one, schema.get("$defs", {}))


def check_value(schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    if "$ref" in schema:
        assert schema["$ref"].removeprefix("#/$defs/") in definitions
    for name in ("anyOf", "allOf", "oneOf", "prefixItems"):
        for one in schema.get(name, []):
            check_value(one, definitions)
    assert {"type", "enum", "const", "anyOf", "allOf", "oneOf", "$ref"} & set(schema), f"says nothing: {schema}"
    assert schema.get("type", "null") in TYPES
    if isinstance(schema.get("items"), dict):
        check_value(schema["items"], definitions)


async def check_call(tool: Tool, folder: Path, **arguments: Any) -> str:
    """Call it as the engine does, in a workspace below `folder`, and return what it says. With side effects
    it asks first whether its attempt is still the current one, and does nothing when it is not."""
    asked = 0

    async def current() -> None:
        nonlocal asked
        asked += 1

    async def stale() -> None:
        raise NoLongerCurrent

    parsed = tool.parse(json.dumps(arguments))
    if tool.effects == "side_effects":
        workspace = context(folder, stale).workspace
        before = seen(workspace)
        with pytest.raises(NoLongerCurrent):
            await tool.function(context(folder, stale), **parsed)
        assert seen(workspace) == before, "await ctx.before_effect() before anything is done"
    said = await tool.function(context(folder, current), **parsed)
    assert isinstance(said, str)
    assert tool.effects != "side_effects" or asked, "await ctx.before_effect() right before the effect"
    return said


def seen(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def context(folder: Path, before_effect: Any) -> ToolContext:
    async def send(address: str, text: str, files: object = ()) -> None:
        return

    workspace, artifacts = folder / "workspace", folder / "artifacts"
    workspace.mkdir(exist_ok=True)
    artifacts.mkdir(exist_ok=True)
    return ToolContext(
        session="s",
        call="t-1-0",
        workspace=workspace,
        settings=ToolsSettings.model_validate({"shell": {"sandbox": "none"}}),  # the same on every machine
        model_name="offline",
        artifacts=artifacts,
        before_effect=before_effect,
        send=send,
        on_output=lambda text: None,
    )

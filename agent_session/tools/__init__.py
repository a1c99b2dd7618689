"""Tools. One file each: every `Tool` in a module of this folder is found by scanning; other packages'
by entry point `agent_session.tools` (a `Tool`, or a module that holds some). No list to edit.
"""

import importlib
import pkgutil
from collections.abc import Collection
from importlib.metadata import entry_points
from typing import Any, cast

from agent_session.domain.patterns import covers, matches, suggested
from agent_session.models.base import ToolSpec
from agent_session.settings import Settings
from agent_session.tools.base import BadTool, Tool, ToolContext, ToolError, tool

SHELL = "shell"


class Toolbox:
    """The tools of this worker."""

    def __init__(self, tools: list[Tool], settings: Settings, model_name: str) -> None:
        self._settings, self._model_name = settings, model_name
        self._tools: dict[str, Tool] = {}
        for one in tools:
            if one.name in self._tools:
                raise BadTool(f"two tools are called {one.name}: rename or remove one")
            self._tools[one.name] = one
        for setting, names in (("ask", settings.tools.ask), ("off", settings.tools.off)):
            unknown = sorted({name.partition(":")[0] for name in names} - {"*", *self._tools})
            if unknown:
                known = ", ".join(sorted(self._tools))
                raise BadTool(f"tools.{setting} names {unknown[0]!r}, which is no tool; there are: {known}")

    def offered(self) -> list[ToolSpec]:
        """What the model may call."""
        return [
            ToolSpec(one.name, one.description, one.schema)
            for one in self._tools.values()
            if not self.why_not(one.name)
        ]

    def find(self, name: str) -> Tool | None:
        return self._tools.get(name)

    def why_not(self, name: str) -> str:
        """Why a tool may not be used; empty when it may."""
        one = self._tools.get(name)
        if one is None:
            return f"there is no tool {name!r}; there are: {', '.join(sorted(self._tools))}"
        if name in self._settings.tools.off:
            return f"the tool {name} is switched off (tools.off)"
        return one.available(self._settings.tools, self._model_name)

    def why_ask(self, name: str, args: str, grants: Collection[str] | None) -> str:
        """Why a person must allow this call of somebody with these grants (None: they were checked before);
        empty when nobody must."""
        one = self._tools.get(name)
        if one is None:
            return ""
        try:
            arguments = one.parse(args)
        except ToolError:
            return ""  # it is refused anyway
        if one.approval:
            return "this tool asks before each call"
        if grants is not None and one.grant not in ("", *grants):
            return f"whoever spoke does not hold the grant {one.grant!r}"
        return self._why_setting_asks(one, arguments) or one.asks(arguments, self._settings.tools)

    def _why_setting_asks(self, one: Tool, arguments: dict[str, Any]) -> str:
        for entry in self._settings.tools.ask:
            name, _, pattern = entry.partition(":")
            as_shell = name == SHELL and one.is_command  # what holds for a command holds for its background form
            if name not in (one.name, "*") and not as_shell:
                continue
            absolute = not one.is_command and one.subject(arguments).startswith("/")  # it may mean any path
            if not pattern or absolute or covers(pattern, one.subject(arguments), is_command=one.is_command):
                return f"the setting tools.ask says so ({entry})"
        return ""

    def is_own_place(self, name: str, args: str, place: str) -> bool:
        """Whether the call writes to the place that its turn came from, and nothing but that made it ask."""
        one = self._tools.get(name)
        try:
            arguments = one.parse(args) if one is not None and one.to_places and place else {}
        except ToolError:
            return False
        same = one is not None and bool(arguments) and one.subject(arguments) == place
        return same and one is not None and not one.approval and not self._why_setting_asks(one, arguments)

    def matches(self, name: str, args: str, pattern: str) -> bool:
        """Whether a pattern that a person allowed covers this call."""
        one = self._tools.get(name)
        try:
            return one is not None and matches(pattern, one.subject(one.parse(args)), is_command=one.is_command)
        except ToolError:
            return False

    def pattern_for(self, name: str, args: str) -> str:
        """The pattern to offer with a request for this call; empty when there is none."""
        one = self._tools.get(name)
        try:
            return suggested(one.subject(one.parse(args)), is_command=one.is_command) if one else ""
        except ToolError:
            return ""


def load_toolbox(settings: Settings, model_name: str) -> Toolbox:
    """Errors: BadTool."""
    found: list[Tool] = []
    for info in pkgutil.iter_modules(__path__):
        found += _tools_in(importlib.import_module(f"{__name__}.{info.name}"))
    for entry in entry_points(group="agent_session.tools"):
        try:
            found += _tools_in(entry.load())
        except BadTool:
            raise
        except Exception as error:
            raise BadTool(f"the tool package {entry.value} cannot be loaded: {error}") from error
    return Toolbox(found, settings, model_name)


def _tools_in(thing: Any) -> list[Tool]:
    if isinstance(thing, Tool):
        return [thing]
    own = [value for value in cast(dict[str, object], vars(thing)).values() if isinstance(value, Tool)]
    return [one for one in own if one.function.__module__ == thing.__name__]


__all__ = ["BadTool", "Tool", "ToolContext", "ToolError", "Toolbox", "load_toolbox", "tool"]

"""Tools. One file each: every `Tool` in a module of this folder is found by scanning; other packages'
by entry point `agent_session.tools` (a `Tool`, or a module that holds some). No list to edit.
"""

import importlib
import pkgutil
from collections.abc import Collection
from importlib.metadata import entry_points
from typing import Any, cast

from agent_session.models.base import ToolSpec
from agent_session.settings import Settings
from agent_session.tools.base import BadTool, Tool, ToolContext, ToolError, tool


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
            unknown = sorted(set(names) - {"*", *self._tools})
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

    def asks(self, name: str, grants: Collection[str]) -> bool:
        """Whether a person must allow each call, for somebody with these grants."""
        one = self._tools.get(name)
        ask = self._settings.tools.ask
        return one is not None and (one.approval or name in ask or "*" in ask or one.grant not in ("", *grants))


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

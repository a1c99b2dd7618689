"""Language models. One file each: a module with `PREFIXES` and `create(name, settings)` is found by
scanning this folder; other packages' by entry point `agent_session.models`. No list to edit.
"""

import importlib
import os
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType

from agent_session.models.base import Model, ModelFault
from agent_session.settings import Settings

DEFAULTS = {"ANTHROPIC_API_KEY": "anthropic:claude-sonnet-4-5", "OPENAI_API_KEY": "openai:gpt-5-mini"}


def model_name(settings: Settings, environment: Mapping[str, str] = os.environ) -> str:
    """The model in force: the setting, else the provider whose key is set, else `offline`. A base URL
    without a name means an OpenAI-compatible server."""
    if settings.model.name:
        return settings.model.name
    for variable, name in DEFAULTS.items():
        if environment.get(variable):
            return name
    return "offline"


def load_model(settings: Settings, name: str = "") -> Model:
    """The configured model, or the one named. Errors: ModelFault (model_setup) that says what to set."""
    configured = model_name(settings)
    name = name or configured
    if name.partition(":")[0] != configured.partition(":")[0]:
        # the base URL is that of the configured provider: another one's API key must not go there
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"base_url": ""})})
    prefix = name.partition(":")[0]
    factories = _factories()
    factory = factories.get(prefix) or factories["*"]
    return factory.create(name, settings)


@cache
def _factories() -> dict[str, ModuleType]:
    found: dict[str, ModuleType] = {}
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    modules += [entry.load() for entry in entry_points(group="agent_session.models")]
    for module in modules:
        for prefix in getattr(module, "PREFIXES", ()):
            found[prefix] = module
    return found


__all__ = ["Model", "ModelFault", "load_model", "model_name"]

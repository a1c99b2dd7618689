"""Where people come in. One file each: ours are found by scanning this folder, other packages' by entry
point `agent_session.channels`. No list to edit.

Light to import, and silent: a channel's own libraries are loaded with the channel.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_session.settings import Settings
    from channels.base import Channel

GROUP = "agent_session.channels"


class NoSuchChannel(ValueError):
    """A channel name that no file and no package provides."""


class BadChannel(ValueError):
    """A channel that cannot be used; the message names it, and its package."""


@dataclass(frozen=True)
class _Found:
    create: "Callable[[Settings], Channel]"
    module: ModuleType | None  #: where `configured` may stand beside it


@cache
def _factories() -> dict[str, _Found]:
    found: dict[str, _Found] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        if hasattr(module, "create"):
            found[info.name] = _Found(module.create, module)
    for entry in entry_points(group=GROUP):
        try:
            create = entry.load()
        except Exception as error:
            raise BadChannel(f"channel {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error
        found[entry.name] = _Found(create, sys.modules.get(getattr(create, "__module__", "")))
    return found


def channel_names() -> list[str]:
    """Errors: BadChannel."""
    return sorted(_factories())


def load_channel(name: str, settings: "Settings") -> "Channel":
    """The channel, also when it is not configured. Errors: NoSuchChannel, BadChannel, BadSettings (its routes)."""
    _check_routes(name, settings)
    return _find(name).create(settings)


def missing(name: str, settings: "Settings") -> str:
    """What a channel needs before it can be used, in words; empty when it is configured. Errors: NoSuchChannel."""
    hook: Callable[[Settings], str] | None = getattr(_find(name).module, "configured", None)
    return hook(settings) if hook is not None else ""


def run_by_themselves(settings: "Settings") -> list[str]:
    """Channels that are configured and listen to a source of their own: each runs in a process of its own, which
    delivers their replies, too. Errors: BadChannel, BadSettings."""
    names = [name for name in channel_names() if load_channel(name, settings).capabilities.receives]
    return [name for name in names if not missing(name, settings)]


def delivered_by_workers(settings: "Settings") -> list[str]:
    """Channels that only deliver, so that any worker does it. One that is not configured here is left to who can.
    Errors: BadChannel, BadSettings."""
    loaded = {name: load_channel(name, settings).capabilities for name in channel_names()}
    silent = [name for name, can in loaded.items() if can.delivers and not can.receives]
    return [name for name in silent if not missing(name, settings)]


def _find(name: str) -> _Found:
    found = _factories().get(name)
    if found is None:
        raise NoSuchChannel(f"there is no channel {name!r}; there are: {', '.join(channel_names())}")
    return found


def _check_routes(name: str, settings: "Settings") -> None:
    routes = getattr(getattr(settings, name, None), "routes", None)
    if not routes:
        return
    from agent_session.settings import BadSettings
    from channels.routing import BadRoute, Routes

    try:
        Routes(routes)
    except BadRoute as error:
        raise BadSettings(f"{name}.routes: {error}\n  see docs/channels.md") from None

"""Where people come in. One file each: ours are found by scanning this folder, other packages' by entry
point `agent_session.channels`. No list to edit.
"""

import importlib
import pkgutil
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points

from agent_session.settings import Settings
from channels.base import Channel


class NoSuchChannel(ValueError):
    """A channel name that no file and no package provides."""


@cache
def _factories() -> dict[str, Callable[[Settings], Channel]]:
    found: dict[str, Callable[[Settings], Channel]] = {}
    for info in pkgutil.iter_modules(__path__):
        create = getattr(importlib.import_module(f"{__name__}.{info.name}"), "create", None)
        if create is not None:
            found[info.name] = create
    for entry in entry_points(group="agent_session.channels"):
        found[entry.name] = entry.load()
    return found


def channel_names() -> list[str]:
    return sorted(_factories())


def load_channel(name: str, settings: Settings) -> Channel:
    """Errors: NoSuchChannel."""
    create = _factories().get(name)
    if create is None:
        raise NoSuchChannel(f"there is no channel {name!r}; there are: {', '.join(channel_names())}")
    return create(settings)

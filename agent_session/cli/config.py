"""Commands about settings: config show, path, edit. They show and edit config.toml of the data directory;
what a setting means stands in docs/settings.md. `path` and `edit` work when the settings cannot be used:
that is when they are needed. Nothing here touches a running service.
"""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from agent_session.cli.common import DataDir, Json, print_json, say

if TYPE_CHECKING:
    from agent_session.settings import Settings
    from agent_session.settings_tree import Entry

WIDTH = 80
VALUE_COLUMN = 44  #: where origins begin, when the value leaves room
LONGEST_SHOWN = 300  #: characters of one value; --json has it whole
KEYS = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY")

config = typer.Typer(
    help="Show the settings in force and where each comes from, or edit config.toml.", no_args_is_help=True
)


@config.command("show")
def show(
    prefix: Annotated[
        str, typer.Argument(metavar="KEY-PREFIX", help="Only this key or group, e.g. model or tools.shell.")
    ] = "",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Print the settings in force, each with its origin; secrets are masked.

    Exit: 0 shown, 2 settings that cannot be used, or a key that is none.
    """
    from agent_session.settings_tree import below, effective

    settings, entries = effective(data_dir)
    entries = below(entries, prefix.strip(".")) if prefix else entries
    if as_json:
        print_json({one.key: {"value": one.value, "origin": one.origin} for one in entries})
        return
    if not prefix:
        print("\n".join(_about(settings)) + "\n")
    print("\n".join(_shown(entries)))


@config.command("path")
def path(data_dir: DataDir = None) -> None:
    """Print where config.toml lies, whether or not it exists."""
    from agent_session.settings import CONFIG_FILE, data_dir_of

    found = data_dir_of(data_dir) / CONFIG_FILE
    print(found)
    if not found.exists():
        say("it does not exist: all settings have their defaults, or come from the environment")


@config.command("edit")
def edit(data_dir: DataDir = None) -> None:
    """Edit config.toml with $VISUAL or $EDITOR. It is checked before it is saved, in one step; what was
    there before stays in config.toml.bak.

    Exit: 0 saved or unchanged, 1 not saved, 2 what was written cannot be used.
    """
    from agent_session.cli.edit import edit_config
    from agent_session.settings import data_dir_of

    edit_config(data_dir_of(data_dir))


def _about(settings: "Settings") -> list[str]:
    """What decides beside our own tree: the model in force, which keys are set, Temporal's own variables."""
    from agent_session.models import model_name

    keys = (f"{name} is {'set' if os.environ.get(name) else 'not set'}" for name in _keys())
    lines = [f"# model in force: {model_name(settings)}", *(f"# {words}" for words in keys)]
    temporal = sorted(name for name in os.environ if name.startswith("TEMPORAL_"))
    if temporal and not settings.temporal.address:
        lines.append(f"# Temporal's own environment is read, too: {', '.join(temporal)}")
    return lines


def _keys() -> list[str]:
    """The providers that choose a model by themselves, and every other key that is set."""
    others = (name for name, value in os.environ.items() if name.endswith("_API_KEY") and value)
    return [*KEYS, *sorted(name for name in others if name not in KEYS and not name.startswith("AGENT_SESSION_"))]


def _shown(entries: "list[Entry]") -> list[str]:
    """TOML with an origin behind each value, grouped, the values of all groups aligned."""
    from agent_session.settings_tree import toml

    lines: list[str] = []
    group = None
    for one in entries:
        head, _, name = one.key.rpartition(".")
        if head != group:
            lines += [*([""] if lines else []), *([f"[{head}]"] if head else [])]
            group = head
        value = "" if one.value is None else toml(one.value)
        if len(value) > LONGEST_SHOWN:
            value = f"{value[:LONGEST_SHOWN]}…"
        left = f"# {name} is not set" if one.value is None else f"{name} = {value}"
        right = f"# {one.origin}"
        both = f"{left:<{VALUE_COLUMN - 1}} {right}" if len(left) < VALUE_COLUMN else f"{left}  {right}"
        lines += [both] if len(both) <= WIDTH else [right, left]
    return lines

"""The settings tree as a person reads it: every key with its value and where the value came from, the
empty file to begin with, and the check of an edited one. It reads and compares; it writes nothing, and a
secret never leaves it unmasked.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from agent_session.settings import (
    CONFIG_FILE,
    PASSWORD_IN_URL,
    PREFIX,
    BadSettings,
    Settings,
    explain,
    load_settings,
)

MASK = "********"
SECRET_WORDS = {
    "key", "keys", "apikey", "token", "tokens", "secret", "secrets", "password", "passwords", "passwd", "passphrase",
    "credential", "credentials", "authorization", "cookie",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One setting in force. `value` is plain (JSON), masked when it is a secret."""

    key: str
    value: Any
    origin: str  #: `default`, `config.toml line 7`, `environment NAME` or `flag --data-dir`


def effective(data_dir: Path | None = None) -> tuple[Settings, list[Entry]]:
    """The tree in force and its entries, in the order of the tree. Errors: BadSettings."""
    settings = load_settings({"data_dir": data_dir})
    try:
        lines = lines_of((settings.data_dir / CONFIG_FILE).read_text())
    except OSError:
        lines = {}
    given: dict[tuple[str, ...], str] = {("data_dir",): "flag --data-dir"} if data_dir else {}
    entries: list[Entry] = []
    for path, value in _leaves(settings):
        origin = given.get(path) or _from_environment(path) or _from_file(path, lines) or "default"
        entries.append(Entry(".".join(path), masked(path[-1], value), origin))
    return settings, entries


def below(entries: list[Entry], prefix: str) -> list[Entry]:
    """Those of one key or group, else those whose key begins so. Errors: ValueError with the nearest names."""
    exact = [one for one in entries if f"{one.key}.".startswith(f"{prefix}.")]
    found = exact or [one for one in entries if one.key.startswith(prefix)]
    if not found:
        raise ValueError(f"{prefix!r} is no setting and no group of settings{_nearest(entries, prefix)}")
    return found


def _nearest(entries: list[Entry], wrong: str) -> str:
    keys = [one.key for one in entries]
    groups = {key.rpartition(".")[0] for key in keys} - {""}
    near = get_close_matches(wrong, [*keys, *sorted(groups)], n=3, cutoff=0.6)
    last = wrong.rpartition(".")[2]
    near += [key for key in keys if get_close_matches(last, [key.rpartition(".")[2]], cutoff=0.75)][:3]
    tops = sorted({key.partition(".")[0] for key in keys})
    return f"; near it: {', '.join(dict.fromkeys(near))}" if near else f"; there are: {', '.join(tops)}"


def masked(name: str, value: Any) -> Any:
    """The value as plain data: secrets as stars when they are set, a password in an address likewise."""
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, BaseModel):
        return {key: masked(key, one) for key, one in value}
    if isinstance(value, Mapping):
        return {str(key): masked(str(key), one) for key, one in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(name, one) for one in cast(list[Any], value)]
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    if is_secret(name):
        return MASK if text else ""
    return PASSWORD_IN_URL.sub(MASK, text)


def is_secret(name: str) -> bool:
    """Whether a key of this name holds a secret. `…_key_file` is where one lies, which is none."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    return bool(SECRET_WORDS & set(words)) and words[-1] not in ("file", "path")


def _leaves(tree: BaseModel | Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in dict(tree).items():
        here = (*path, str(name))
        if isinstance(value, BaseModel) or (isinstance(value, Mapping) and value):
            yield from _leaves(cast(Any, value), here)
        else:
            yield here, value


def _from_environment(path: tuple[str, ...]) -> str:
    """The variable that set it: its own, or one above it that holds JSON with this key."""
    names = {name.lower(): name for name, value in os.environ.items() if value}
    for depth in range(len(path), 0, -1):
        name = names.get((PREFIX + "__".join(path[:depth])).lower())
        if name is None:
            continue
        if depth == len(path) or _holds(os.environ[name], path[depth:]):
            return f"environment {name}"
    return ""


def _holds(text: str, path: tuple[str, ...]) -> bool:
    try:
        value: Any = json.loads(text)
        for part in path:
            value = value[part]
    except (ValueError, KeyError, TypeError):
        return False
    return True


def _from_file(path: tuple[str, ...], lines: Mapping[tuple[str, ...], int]) -> str:
    number = lines.get(path, 0)
    return f"{CONFIG_FILE} line {number}" if number else ""


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """The line of every key of a TOML text, from 1. Each statement is read by the TOML parser itself, so
    that neither quoted keys nor lines inside a long string are mistaken."""
    found: dict[tuple[str, ...], int] = {}
    head: tuple[str, ...] = ()
    statement, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        first = first if statement else number
        statement += line + "\n"
        try:
            tree = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # it goes on in the next line
        is_head, statement = statement.lstrip().startswith("["), ""
        paths = [path for path, _ in _leaves(tree)] or [()]
        if is_head:
            head = tuple(part for part in paths[0])
            found.setdefault(head, first)
        for path in paths if tree and not is_head else ():
            for depth in range(len(path), 0, -1):
                found.setdefault((*head, *path[:depth]), first)
    return found


class _Alone(Settings):
    """The tree from its arguments only, whatever the environment says."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def check_file(path: Path, data_dir: Path) -> None:
    """Whether the service could use this file as its config.toml. Errors: BadSettings.

    Read as it would be, under the environment; then alone, so that a bad value which the environment
    hides today is seen too. What only the whole tree can tell (a secret that the environment has) counts
    in the first reading only.
    """
    load_settings({"data_dir": data_dir}, config=path)
    text = path.read_text()

    try:
        _Alone(**tomllib.loads(text), data_dir=data_dir)
    except ValidationError as error:
        written = lines_of(text)
        own = [one for one in error.errors() if tuple(str(part) for part in one["loc"]) in written and one["loc"][1:]]
        own += [one for one in error.errors() if one["type"] == "extra_forbidden" and one not in own]
        if own:
            raise BadSettings(explain(own, path, environment={})) from None


def template() -> str:
    """A config.toml that sets nothing: every key with its default, as a comment."""
    lines = [
        "# Settings of agent-session. Take the '#' away before a line to set it; what each means: docs/settings.md.",
        "# What is in force, and from where: agent-session config show",
        "",
    ]
    group = ""
    for path, value in _leaves(_Alone(data_dir=Path("/"))):
        if path == ("data_dir",):
            continue  # it says where this file lies
        if ".".join(path[:-1]) != group:
            group = ".".join(path[:-1])
            lines += ["", f"[{group}]"]
        shown = "…  (not set)" if value is None else toml(masked(path[-1], value))
        lines.append(f"# {path[-1]} = {shown}")
    return "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    """A plain value as TOML writes it."""
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key)} = {toml(one)}" for key, one in cast(Mapping[str, Any], value).items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(one) for one in cast(list[Any], value)) + "]"
    return json.dumps(value, ensure_ascii=False)

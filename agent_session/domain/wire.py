"""What travels through Temporal: plain mappings of str, int, bool and list, defaults left out.

Reading is tolerant (I8: types only grow): an unknown field is ignored, a value of the wrong type
becomes the field's default, so that an old worker and a new client understand each other.
"""

import dataclasses
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

Wire = dict[str, Any]
T = TypeVar("T")


def encoded_bytes(value: Any) -> int:
    """Size of `value` as Temporal's JSON converter writes it (ASCII escapes, no spaces)."""
    return len(json.dumps(value, separators=(",", ":"), default=str))


def clipped(text: str, limit_bytes: int) -> str:
    """The beginning of `text` that takes at most so many bytes as encoded."""
    while encoded_bytes(text) > limit_bytes:
        text = text[: max(0, min(len(text) - 1, limit_bytes - 2))] if len(text) > limit_bytes else text[:-1]
    return text


def to_wire(value: Any) -> Wire:
    """A dataclass as a mapping without the fields that hold their default."""
    wire: Wire = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if item == _default(field):
            continue
        wire[field.name] = _plain(item)
    return wire


def from_wire(cls: type[T], raw: object) -> T:
    """Read a dataclass back. Anything unreadable becomes the default; required fields become empty."""
    given: Mapping[str, Any] = cast(Mapping[str, Any], raw) if isinstance(raw, Mapping) else {}
    hints = _hints(cls)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cast(Any, cls)):
        if field.name in given:
            fits, value = _fit(hints[field.name], given[field.name])
            if fits:
                values[field.name] = value
                continue
        if _default(field) is dataclasses.MISSING:
            values[field.name] = _empty(hints[field.name])
    return cls(**values)


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return dataclasses.MISSING


def _plain(item: Any) -> Any:
    if dataclasses.is_dataclass(item):
        return to_wire(item)
    if isinstance(item, tuple):
        return [_plain(one) for one in cast(tuple[Any, ...], item)]
    return item


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _empty(hint: Any) -> Any:
    origin = get_origin(hint)
    if origin is tuple:
        return ()
    if dataclasses.is_dataclass(hint):
        return from_wire(cast(type[Any], hint), {})
    return hint() if hint in (str, int, bool, float) else None


def _fit(hint: Any, item: Any) -> tuple[bool, Any]:
    """Whether `item` reads as `hint`, and its value. bool is no int here: JSON keeps them apart."""
    origin = get_origin(hint)
    if origin is tuple:
        element = get_args(hint)[0]
        if not isinstance(item, list):
            return False, None
        fitted = [_fit(element, one) for one in cast(list[Any], item)]
        return all(ok for ok, _ in fitted), tuple(value for _, value in fitted)
    if origin is dict:
        return isinstance(item, dict), item
    if origin is not None:  # a union: the first arm that fits
        for arm in get_args(hint):
            fits, value = _fit(arm, item)
            if fits:
                return True, value
        return False, None
    if dataclasses.is_dataclass(hint):
        return isinstance(item, Mapping), from_wire(cast(type[Any], hint), item)
    if hint is type(None):
        return item is None, None
    if hint is float:
        return isinstance(item, int | float) and not isinstance(item, bool), item
    if hint is int:
        return isinstance(item, int) and not isinstance(item, bool), item
    return isinstance(item, hint), item

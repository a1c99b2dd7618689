"""Which session a place belongs to. Pure: values in, a session key out; no I/O, nothing of Temporal.

A route is a pattern of places and the session key that they get, `"dm:U1" = "main"` or
`"thread:C1" = "slack/{channel}/{thread}"`; it is settings, so people can let a terminal, Slack and a heartbeat
share one session. What no route names goes by the default rules of `default_session`.

Authority is none of this module's business (I10): sharing a session gives nobody a grant.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from urllib.parse import quote

from agent_session.domain.ids import BadSessionKey, session_key
from agent_session.domain.limits import KEY_BYTES

OWNER, ANY = "owner", "*"
MAIN = "main"  #: the session that the owner's direct messages and the terminal share
#: what a route may begin with, and for each the part that a value without a name means
MAIN_PART = {OWNER: "user", "dm": "user", "group": "channel", "channel": "channel", "thread": "channel", ANY: "channel"}
NARROWNESS = (ANY, "channel", "thread", "group", "dm", OWNER)  #: of two alike otherwise, the later one counts
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")


class BadRoute(ValueError):
    """A route that cannot be used; the message names it and says why."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a message was said. `parts` are the source's own ids, never names that people give themselves."""

    channel: str  #: the channel's name, `slack`
    kind: str  #: dm; group (direct messages of several people); channel (outside a thread); thread
    parts: Mapping[str, str]  #: Slack: team, channel, thread (the first message's ts), user; those that are known
    owner: bool = False  #: whoever said it is an owner


@dataclass(frozen=True)
class Route:
    """One line of `routes`."""

    kind: str
    wanted: tuple[tuple[str, str], ...]  #: part, value; `*` stands for any characters
    template: str

    @classmethod
    def parse(cls, pattern: str, template: str) -> "Route":
        """Errors: BadRoute."""
        kind, colon, rest = pattern.partition(":")
        if kind not in MAIN_PART:
            raise BadRoute(f"{pattern!r} begins with none of {', '.join(MAIN_PART)}")
        if colon and not rest:
            raise BadRoute(f"{pattern!r} names nothing behind its colon: write {kind!r}, or {kind + ':<id>'!r}")
        wanted = tuple(_conditions(pattern, kind, rest))
        _check_template(pattern, template)
        return cls(kind, wanted, template)

    def fits(self, place: Place) -> bool:
        """A route whose template names a part that the place lacks does not fit it."""
        return (
            _is_of_kind(self.kind, place)
            and all(_matches(value, place.parts.get(part, "")) for part, value in self.wanted)
            and all(place.parts.get(field) for field in self.fields)
        )

    @cached_property
    def fields(self) -> tuple[str, ...]:
        return tuple(field for _, field, _, _ in Formatter().parse(self.template) if field is not None)

    @property
    def narrowness(self) -> tuple[int, int, int]:
        """Of all routes that fit, the narrowest counts: more parts named, then fewer `*`, then the kind."""
        return len(self.wanted), -sum(ANY in value for _, value in self.wanted), NARROWNESS.index(self.kind)


class Routes:
    """A table of routes, read once. Their order in the file means nothing."""

    def __init__(self, routes: Mapping[str, str]) -> None:
        """Errors: BadRoute for the first that cannot be used."""
        read = [Route.parse(pattern, template) for pattern, template in sorted(routes.items())]
        self._narrowest_first = sorted(read, key=lambda route: route.narrowness, reverse=True)
        self.kinds = frozenset(route.kind for route in read)  #: of places that some route names

    def session_of(self, place: Place) -> str:
        """The session key of a place; the same place always has the same one."""
        for route in self._narrowest_first:
            if route.fits(place):
                return _key(route.template.format_map({name: _quoted(one) for name, one in place.parts.items()}))
        return default_session(place)


def session_of(routes: Mapping[str, str], place: Place) -> str:
    """As `Routes(routes).session_of(place)`. Errors: BadRoute."""
    return Routes(routes).session_of(place)


def default_session(place: Place) -> str:
    """Without a route: an owner's direct messages belong to `main`, those of anybody else to a session of that
    person, a thread to one of its own, and a place without threads to one of its own."""
    if place.kind == "dm" and place.owner:
        return MAIN
    if place.kind == "dm":
        names = ("team", "user") if place.parts.get("user") else ("team", "channel")
        return _key("/".join([place.channel, "dm", *_values(place, names)]))
    return _key("/".join([place.channel, *_values(place, ("team", "channel", "thread"))]))


def _values(place: Place, names: tuple[str, ...]) -> list[str]:
    return [_quoted(place.parts[name]) for name in names if place.parts.get(name)]


def _conditions(pattern: str, kind: str, rest: str) -> Iterator[tuple[str, str]]:
    """`C1` or `channel=C1,thread=17.1`."""
    seen: set[str] = set()
    for one in rest.split(",") if rest else ():
        name, equals, value = one.strip().partition("=")
        part, wanted = (name, value) if equals else (MAIN_PART[kind], name)
        if not NAME.match(part) or not wanted.strip():
            raise BadRoute(f"{pattern!r} has {one.strip()!r}, which is no '<id>' and no '<part>=<id>'")
        if part in seen:
            raise BadRoute(f"{pattern!r} names the part {part!r} twice")
        seen.add(part)
        yield part, wanted.strip()


def _check_template(pattern: str, template: str) -> None:
    """What comes from outside may fill a key in, but never be its beginning: it could name anybody's session."""
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise BadRoute(f"{pattern!r} = {template!r}: {error}") from None
    for _, field, form, conversion in pieces:
        if field is not None and (not NAME.match(field) or form or conversion):
            raise BadRoute(f"{pattern!r} = {template!r}: between braces stands the name of a part, as in {{thread}}")
    if pieces and pieces[0][1] is not None and not pieces[0][0].strip():
        raise BadRoute(f"{pattern!r} = {template!r}: begin it with a word of your own, as in slack/{template}")
    try:
        session_key("".join(literal + ("x" if field is not None else "") for literal, field, _, _ in pieces))
    except BadSessionKey as error:
        raise BadRoute(f"{pattern!r} = {template!r}: {error}") from None


def _is_of_kind(kind: str, place: Place) -> bool:
    if kind == OWNER:
        return place.kind == "dm" and place.owner
    if place.kind == "group":  # it is a channel, too, and has threads
        return kind in (ANY, "group", "channel") or (kind == "thread" and bool(place.parts.get("thread")))
    return kind in (ANY, place.kind) or (kind == "channel" and place.kind == "thread")


def _matches(wanted: str, value: str) -> bool:
    """Every `*` is any number of characters; nothing else is special, and an unknown part is never matched."""
    return bool(value) and re.fullmatch(".*".join(map(re.escape, wanted.split(ANY))), value, re.DOTALL) is not None


def _quoted(part: str) -> str:
    """One part as it stands in a key: it can neither end there nor hold what a key may not."""
    return "".join(quote(char, safe="", errors="replace") if _is_special(char) else char for char in part)


def _is_special(char: str) -> bool:
    return char in "/%" or unicodedata.category(char) in ("Cc", "Cs")


def _key(text: str) -> str:
    """Within the limits of a key: what is too long keeps its beginning and gets a digest."""
    if len(unicodedata.normalize("NFC", text).encode()) > KEY_BYTES:
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        text = f"{text.encode()[: KEY_BYTES // 2].decode('utf-8', 'ignore')}-{digest}"
    return session_key(text)

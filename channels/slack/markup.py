"""What a person typed, out of Slack's own markup: `<@U1>` is @name, `<https://x|y>` is y (https://x). Pure."""

import re
from collections.abc import Mapping

_TOKEN = re.compile(r"<([^<>]+)>")
_USER = re.compile(r"<@([UW][A-Z0-9]+)(?:\|[^<>]*)?>")
_SCHEMES = ("https://", "http://", "mailto:", "tel:")


def mentioned(text: str) -> list[str]:
    """The users that a text names, each once."""
    return list(dict.fromkeys(_USER.findall(text)))


def without_own_name(text: str, me: str) -> str:
    """The words behind the mention that they begin with."""
    return re.sub(rf"\A\s*(?:<@{re.escape(me)}(?:\|[^<>]*)?>[\s,:]*)+", "", text)


def plain(text: str, names: Mapping[str, str]) -> str:
    """Plain words. `names`: of users, by id; an id without one stays."""
    pieces = _TOKEN.split(text)  # every second piece stood between < and >
    shown = (_unescape(piece) if number % 2 == 0 else _token(piece, names) for number, piece in enumerate(pieces))
    return "".join(shown)


def _token(inner: str, names: Mapping[str, str]) -> str:
    target, _, label = (_unescape(part) for part in inner.partition("|"))
    kind, name = target[:1], target[1:]
    if kind == "@":
        return f"@{names.get(name) or label or name}"
    if kind == "#":
        return f"#{label or name}"
    if kind == "!":
        return label or f"@{name.partition('^')[0]}"
    bare = next((target.removeprefix(scheme) for scheme in _SCHEMES if target.startswith(scheme)), target)
    if not label or label == target:
        return target
    if label == bare:  # a link that Slack made by itself
        return label if target.startswith(("mailto:", "tel:")) else target
    return f"{label} ({target})"


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")

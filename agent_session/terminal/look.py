"""What this terminal can show: colours, characters, a cursor that moves. Decides, draws nothing."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

DIM, BOLD, RED, GREEN, YELLOW, CYAN = "2", "1", "31", "32", "33", "36"
IN_ASCII = {"⚙": "*", "…": "...", "·": "-", "•": "*", "─": "-", "━": "=", "│": "|", "▌": "|", "▏": "|", "└": "`"}


@dataclass(frozen=True)
class Look:
    colour: bool = True
    unicode: bool = True
    screen: bool = True  #: the cursor can be moved: a live area and a status line are possible

    def paint(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.colour and text else text

    def words(self, text: str) -> str:
        """Our own marks as this terminal's characters can show them."""
        return text if self.unicode else text.translate(str.maketrans(IN_ASCII))

    @property
    def dots(self) -> str:
        return "…" if self.unicode else "..."

    @property
    def fill(self) -> str:
        return "…" if self.unicode else "."


def look_of(environment: Mapping[str, str], encoding: str, *, tty: bool) -> Look:
    """By the conventions: NO_COLOR, TERM=dumb, the locale."""
    moves = tty and environment.get("TERM", "") not in ("", "dumb", "unknown")
    return Look(
        colour=moves and not environment.get("NO_COLOR"),
        unicode=_is_utf8(environment, encoding),
        screen=moves,
    )


def _is_utf8(environment: Mapping[str, str], encoding: str) -> bool:
    """Python writes UTF-8 in a C locale, too, but the person who chose LC_ALL=C does not expect it."""
    chosen = next((environment[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environment.get(name)), "")
    return "utf" in encoding.lower() and (not chosen or "utf" in chosen.lower())


def this_look() -> Look:
    tty = sys.stdin.isatty() and sys.stdout.isatty()
    return look_of(os.environ, sys.stdout.encoding or "ascii", tty=tty)

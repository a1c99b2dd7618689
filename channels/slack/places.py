"""Places in Slack, as reply addresses name them: `slack:[<team>/]<channel>[/<thread>]`. Pure.

The team may be left out: one app is in one workspace, so it is the bot's own.
"""

import re
from dataclasses import dataclass

NAME = "slack"
DIRECT = "D"  #: what the id of a conversation between the app and one person begins with
_PLACE = re.compile(r"(?:([TE][A-Z0-9]{1,20})/)?([CDG][A-Z0-9]{1,20})(?:/(\d{1,12}\.\d{1,9}))?\Z", re.ASCII)


@dataclass(frozen=True)
class SlackPlace:
    """Where something is posted: a conversation, or a thread of it."""

    team: str  #: empty: the bot's own
    channel: str
    thread: str = ""  #: ts of its first message

    @classmethod
    def parse(cls, place: str) -> "SlackPlace":
        """Errors: ValueError."""
        found = _PLACE.match(place)
        if found is None:
            raise ValueError(
                f"{place[:80]!r} is no place in Slack: write <channel>, <team>/<channel> or <channel>/<thread>, "
                "with ids (C024BE91L: the channel's name, at the bottom of About), not names"
            )
        return cls(found[1] or "", found[2], found[3] or "")

    @property
    def is_direct(self) -> bool:
        return self.channel.startswith(DIRECT)

    @property
    def text(self) -> str:
        return "/".join(part for part in (self.team, self.channel, self.thread) if part)

    @property
    def address(self) -> str:
        return f"{NAME}:{self.text}"

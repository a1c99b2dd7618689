"""Places in Slack, as reply addresses name them: `slack:<team>/<channel>[/<thread>]`. Pure."""

import re
from dataclasses import dataclass

NAME = "slack"
DIRECT = "D"  #: what the id of a conversation between the app and one person begins with
_PLACE = re.compile(r"([TE][A-Z0-9]{1,20})/([CDG][A-Z0-9]{1,20})(?:/(\d{1,12}\.\d{1,9}))?\Z", re.ASCII)


@dataclass(frozen=True)
class SlackPlace:
    """Where something is posted: a conversation, or a thread of it."""

    team: str
    channel: str
    thread: str = ""  #: ts of its first message

    @classmethod
    def parse(cls, place: str) -> "SlackPlace":
        """Errors: ValueError."""
        found = _PLACE.match(place)
        if found is None:
            raise ValueError(
                f"{place[:80]!r} is no place in Slack: write <team>/<channel> or <team>/<channel>/<thread>"
            )
        return cls(found[1], found[2], found[3] or "")

    @property
    def is_direct(self) -> bool:
        return self.channel.startswith(DIRECT)

    @property
    def text(self) -> str:
        return "/".join(part for part in (self.team, self.channel, self.thread) if part)

    @property
    def address(self) -> str:
        return f"{NAME}:{self.text}"

"""One reply on its way out, as a channel gets it."""

import re
from dataclasses import dataclass

from agent_session.domain.messages import Attachment

REPLY, CARD, WORDS = "reply", "card", "words"
_CARD = re.compile(r"t-[0-9a-f]{16}-\d+-(card|\d+-[0-9a-f]{8})\Z")


@dataclass(frozen=True, kw_only=True)
class Outbound:
    """Handed over possibly more than once, in the same words: post it once, by `reply`."""

    session: str  #: the session's key
    place: str  #: where to, without the channel's name
    reply: str  #: its id; for the reply to a turn the turn's id
    text: str
    kind: str = REPLY  #: reply: a turn's; card: a request for a decision; words: a tool's or a command's
    outcome: str = "answered"  #: how the turn ended: answered, interrupted, cancelled or failed
    files: tuple[Attachment, ...] = ()  #: of the session's spool; only for a channel that `posts_files`


def with_names(text: str, files: tuple[Attachment, ...]) -> str:
    """The words for a place that takes no files: they name what it does not get."""
    names = ", ".join(f"{one.name} ({one.size:,} bytes)" for one in files)
    return f"{text}\n\n(Not sent, since this place takes no files: {names}.)" if files else text


def kind_of(reply: str, *, own_words: bool) -> str:
    """What a delivery of this name brings. `own_words`: not a turn's reply."""
    if not own_words:
        return REPLY
    return CARD if _CARD.match(reply) else WORDS

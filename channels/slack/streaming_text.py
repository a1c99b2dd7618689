"""The answer so far, as it may be shown while it is written.

Pure. Slack takes streamed text as Markdown; what would ping somebody is broken by a character that nobody sees.
"""

import html
import re

from channels.slack.mrkdwn import NOTHING, plain
from channels.slack.splitting import PART_CHARS, split

THINKING = "thinking…"
LOOKED_AT = 4 * PART_CHARS  #: of an answer that may grow for long: markup takes room, too
BEGUN_CHARS = 120  #: of the first words, by which a message is known again
LETTERS = 40
STATUS_CHARS = 80
_LINK = re.compile(r"<[^<>|]*(?:\|([^<>]*))?>")
_ADDRESS = re.compile(r"https?://\S+")
_EMOJI = re.compile(r":[a-z0-9_+-]+:")
_PING = re.compile(r"<(?=[!@#])|@(?=(?:here|channel|everyone)\b)", re.I)
_PERHAPS_MORE = re.compile(r"(?:<|@\w{0,8})\Z")


def streamed(markdown: str) -> str:
    """Markdown that mentions nobody. What is appended to the text is appended to the result, except behind an
    open end (`settled`)."""
    return _PING.sub(lambda found: found[0] + NOTHING, markdown)


def settled(markdown: str) -> str:
    """Without an end that may become a mention."""
    return _PERHAPS_MORE.sub("", markdown)


def first_part(markdown: str) -> str:
    """What of the answer so far belongs to its first message."""
    return split(markdown[:LOOKED_AT])[0] if markdown else ""


def with_status(shown: str, status: str) -> str:
    """An answer that is not ready, and what is being done."""
    doing = f"_{status}_" if status else ""
    return "\n".join(line for line in (shown.rstrip(), doing) if line)


def status_words(doing: str, tool: str = "") -> str:
    """`running shell…`, without anything that Slack would read as markup."""
    words = f"{doing} {re.sub(r'[^A-Za-z0-9 .-]', ' ', tool)}".strip()
    return f"{words[:STATUS_CHARS]}…"


def letters(text: str) -> str:
    """What stays the same however Slack writes a text down: its first letters and digits, without addresses."""
    text = _LINK.sub(lambda found: found[1] or "", text)
    text = _EMOJI.sub("", html.unescape(_ADDRESS.sub("", text)))
    return "".join(char for char in text if char.isalnum())[:LETTERS]


def is_begun_with(text: str, begun: str) -> bool:
    """Whether a message's text, as Slack tells it, begins with the words that a streamer began with."""
    mine = letters(plain(begun))
    return mine != "" and letters(text).startswith(mine)


def beginning(markdown: str) -> str:
    """The first words, for the journal."""
    return markdown[:BEGUN_CHARS].encode("utf-8", "replace").decode()

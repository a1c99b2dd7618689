"""What a reply looks like in Slack: one message or several.

Pure. A turn's answer and what a tool sends are Markdown; the service's own words are shown as they are, since they
may show a call, and nothing in them may be hidden by markup.
"""

import re
from dataclasses import dataclass
from typing import Any

from agent_session.domain.outbound import CARD, REPLY, Outbound
from channels.slack.mrkdwn import FENCE, Block, escape, to_mrkdwn
from channels.slack.splitting import split

PARTS = 20  #: messages of one answer; the rest stays readable in the transcript
NOTICE_CHARS = 580  #: of a card's words, which Slack shows in notifications; as entities they take five times that
_OF_A_TOOL = re.compile(r"t-[0-9a-f]{16}-\d+-\d+(-\d+)?\Z")
_MARKUP = frozenset("*_~`")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One message."""

    text: str  #: mrkdwn
    markdown: str = ""  #: the same as Markdown, for a streamed message
    blocks: tuple[dict[str, Any], ...] = ()


def parts_of(out: Outbound) -> list[Part]:
    """In order; at least one for a text that is not empty."""
    if not out.text.strip():
        return [Part(text="(empty)", markdown="(empty)")]
    text = out.text.encode("utf-8", "replace").decode()
    if out.kind == REPLY or (out.kind != CARD and _OF_A_TOOL.match(out.reply)):
        sources = split(text)
    else:
        sources = split(verbatim(text))
    if len(sources) > PARTS:
        left = sum(map(len, sources[PARTS - 1 :]))
        note = f"… {left} more characters: `agent-session history {out.session}`"
        sources = [*sources[: PARTS - 1], note]
    return [Part(text=to_mrkdwn(source), markdown=source) for source in sources]


def card_part(out: Outbound, blocks: list[dict[str, Any]]) -> Part:
    """A card, with its words for notifications."""
    return Part(text=escape(out.text[:NOTICE_CHARS]), blocks=tuple(blocks))


def verbatim(text: str) -> str:
    """The words as Markdown that shows each of them: as code where markup would hide something."""
    if not _MARKUP & set(text) and to_mrkdwn(text) == escape(text):
        return text
    return Block(kind=FENCE, lines=tuple(text.split("\n"))).source

"""What of an answer is shown while it is written."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from channels.slack.mrkdwn import to_mrkdwn
from channels.slack.splitting import PART_CHARS, size
from channels.slack.streaming_text import (
    beginning,
    first_part,
    is_begun_with,
    settled,
    status_words,
    streamed,
    with_status,
)
from tests.unit.test_slack_mrkdwn import MARKDOWN

PINGS = st.lists(st.sampled_from(["<", "!", "@", "here", "channel", "everyone", "#", " ", "x", "<!channel>", "\n"]))


@given(st.one_of(MARKDOWN, PINGS.map("".join)))
def test_streamed_text_pings_nobody(markdown: str) -> None:
    shown = streamed(markdown)
    assert not re.search(r"<[!@#]", shown)
    assert not re.search(r"@(here|channel|everyone)\b", shown, re.I)
    assert shown.replace("\u200b", "") == markdown.replace("\u200b", "")


@given(PINGS.map("".join), st.data())
def test_what_was_sent_stays_the_beginning_of_what_follows(markdown: str, data: st.DataObject) -> None:
    """A stream can only be added to."""
    end = data.draw(st.integers(0, len(markdown)))
    assert streamed(markdown).startswith(streamed(settled(markdown[:end])))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 20_000))
def test_an_answer_that_grows_stays_one_message(length: int) -> None:
    text = ("A sentence of some words. " * 1_000)[:length]
    assert size(with_status(to_mrkdwn(first_part(text)), "running shell…")) <= PART_CHARS + 40
    assert text.startswith(first_part(text).rstrip())


def test_a_status_is_no_markup() -> None:
    assert status_words("running", "shell") == "running shell…"
    assert status_words("running", "<!here>*_x_*`") == "running   here   x…"
    assert with_status("*so far*", "running shell…") == "*so far*\n_running shell…_"


def test_a_message_is_known_again_however_slack_writes_it_down() -> None:
    begun = beginning("**Look** at [this](https://x.y/z) & that 😀, https://a.b/c")
    assert is_begun_with("*Look* at <https://x.y/z|this> &amp; that :grinning:, <https://a.b/c> and more", begun)
    assert is_begun_with("Look at this (https://x.y/z) &amp; that 😀, https://a.b/c and more", begun)
    assert not is_begun_with("Look at something else", begun)
    assert not is_begun_with("anything", beginning("😀")), "nothing to know it by"

"""Long answers in several messages: each within Slack's limits, nothing lost, nothing torn."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.slack.mrkdwn import to_mrkdwn
from channels.slack.splitting import PART_CHARS, size, split
from tests.unit.test_slack_mrkdwn import LINK, MARKDOWN

LONG = st.lists(st.one_of(MARKDOWN, st.text(min_size=50, max_size=400)), min_size=1, max_size=30).map("\n".join)


def test_a_short_answer_is_one_message_as_it_is() -> None:
    assert split("  short,\n\n\nas it is\n") == ["  short,\n\n\nas it is\n"]


def test_parts_end_between_paragraphs() -> None:
    paragraphs = [f"{number} " + "word " * 150 + "end" for number in range(12)]
    parts = split("\n\n".join(paragraphs))
    assert len(parts) > 2
    assert "\n\n".join(part.strip() for part in parts).split("\n\n") == paragraphs


def test_a_heading_goes_with_what_it_stands_over() -> None:
    text = "\n\n".join(["word " * 600, "## Results", "word " * 200])
    first, second = split(text)
    assert "Results" not in first
    assert second.startswith("## Results")


def test_a_code_block_is_closed_and_opened_again() -> None:
    code = [f"line {number}: {'x' * 60}" for number in range(200)]
    parts = split("\n".join(["Look:", "```python", *code, "```", "Done."]))
    assert len(parts) > 3
    for part in parts:
        assert part.count("```") % 2 == 0
    assert [line for part in parts for line in part.split("\n") if line.startswith("line ")] == code
    assert all("```python" in part for part in parts[1:-1])


def test_a_tables_heading_stands_over_each_part() -> None:
    rows = [f"| {number} | {'x' * 40} |" for number in range(200)]
    parts = split("\n".join(["| a | b |", "|---|---|", *rows]))
    assert len(parts) > 2
    assert all(part.startswith("| a | b |\n|---|---|\n") for part in parts)
    assert [line for part in parts for line in part.split("\n")[2:]] == rows


def test_no_link_is_torn() -> None:
    links = " ".join(f"[the page {number}](https://example.com/{'path/' * 8}{number})" for number in range(200))
    parts = split(links)
    assert len(parts) > 2
    found = [link for part in parts for link in LINK.findall(to_mrkdwn(part))]
    assert len(found) == 200
    assert "](" not in "".join(to_mrkdwn(part) for part in parts)


def test_a_word_that_is_longer_than_a_message_is_cut_between_characters() -> None:
    family = "👩‍👩‍👧"
    parts = split(family * 1_000)
    assert "".join(parts) == family * 1_000
    assert all(part.startswith("👩") and part.endswith("👧") for part in parts)


def test_sentences_stay_whole_where_they_can() -> None:
    sentence = "This is a sentence of a paragraph without a break. "
    parts = split(sentence * 200)
    assert len(parts) > 2
    assert all(part.rstrip().endswith("break.") for part in parts)


@settings(deadline=None)
@given(LONG, st.integers(100, 900))
def test_each_part_is_within_the_limit(markdown: str, limit: int) -> None:
    for part in split(markdown, limit):
        assert size(to_mrkdwn(part)) <= limit


@settings(deadline=None)
@given(LONG, st.integers(100, 900))
def test_no_word_is_lost_and_the_order_stays(markdown: str, limit: int) -> None:
    """Tables repeat their heading, fences their language, quotes their mark."""
    if "|" in markdown or "```" in markdown or "~~~" in markdown:
        return
    joined = "".join(split(markdown, limit))
    assert re.sub(r"[\s\0>]", "", joined) == re.sub(r"[\s\0>]", "", markdown)


@settings(deadline=None)
@given(LONG)
def test_no_part_pings_anybody_or_tears_a_link(markdown: str) -> None:
    for part in split(markdown, 200):
        assert "<" not in LINK.sub("", to_mrkdwn(part))


@pytest.mark.timeout(20)
def test_a_very_long_answer_takes_no_time() -> None:
    assert len(split("A sentence of some words here. " * 5_000)) > 40
    assert len(split("x" * 100_000)) > 25
    assert all(size(part) <= PART_CHARS for part in split("y " * 20_000))

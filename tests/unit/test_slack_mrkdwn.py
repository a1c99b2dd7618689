"""Markdown to Slack's mrkdwn: what people see, and what nobody can do to them with it."""

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.slack.mrkdwn import NOTHING, blocks_of, inline, plain, to_mrkdwn

LINK = re.compile(r"<(?:https?://|mailto:|tel:)[^<>|\s]+(?:\|[^<>|\n]*)?>", re.I)
PIECES = st.sampled_from(
    ["*", "**", "***", "_", "__", "~~", "`", "``", "```", "~~~", "\n", "\n\n", "|", "|-|", "[", "](", ")", "!", "<",
     ">", "&", "&lt;", "&#60;", "<!channel>", "<!here|x>", "<@U1>", "<#C1>", "<!subteam^S1>", "https://x.y/a_b*c?d=1&e=<f>",
     "javascript:x", "# ", "> ", "- ", "1. ", "- [x] ", "---", "word", "wörd", "日本", "👩‍👩‍👧", " ", "\\", "\\<", "\0",
     "[a](https://x.y|<!channel>)", "[<!channel>](https://x.y)", "<https://x.y|<!here>>", "a@b.c", "@here"]
)  # fmt: skip
MARKDOWN = st.one_of(st.text(), st.lists(PIECES, max_size=40).map("".join))


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("**bold** and __bold__", "*bold* and *bold*"),
        ("*it* and _it_", "_it_ and _it_"),
        ("***both***", "*_both_*"),
        ("**bold with _it_ inside**", "*bold with _it_ inside*"),
        ("~~gone~~", "~gone~"),
        ("un**frigging**believable", f"un{NOTHING}*frigging*{NOTHING}believable"),
        ("`a < b && c`", "`a &lt; b &amp;&amp; c`"),
        ("2 * 3 * 4", "2 * 3 * 4"),
        ("snake_case_name and __init__.py", "snake_case_name and __init__.py"),
        ("# Title", "*Title*"),
        ("### **Title** with `code` ###", "*Title with code*"),
        ("- one\n  * two\n+ three", "• one\n  • two\n• three"),
        ("- [ ] open\n- [x] done", "☐ open\n☑ done"),
        ("1. one\n2. two", "1. one\n2. two"),
        ("> said **so**\n> twice", "> said *so*\n> twice"),
        ("---", "———"),
        ("[docs](https://x.y/a?b=1&c=2)", "<https://x.y/a?b=1&amp;c=2|docs>"),
        ('[docs](https://x.y "a title")', "<https://x.y|docs>"),
        ("![a picture](https://x.y/p.png)", "<https://x.y/p.png|a picture>"),
        ("<https://x.y>", "<https://x.y>"),
        ("see https://x.y/a_b_(c).", "see <https://x.y/a_b_(c)>."),
        ("[file](./a.md)", "file (./a.md)"),
        ("[click](javascript:alert)", "click (javascript:alert)"),
        ("AT&amp;T", "AT&amp;T"),
        ("```python\nx = 1 < 2\n```", "```\nx = 1 &lt; 2\n```"),
        ("~~~\nx\n~~~", "```\nx\n```"),
        ("````\n```\ninner\n```\n````", f"```\n``{NOTHING}`\ninner\n``{NOTHING}`\n```"),
        ("```\nnot closed", "```\nnot closed\n```"),
        ("| a | b |\n|---|:-:|\n| 1 | **two** |", "```\na  b\n─  ───\n1  two\n```"),
        ("a\n\n\n\nb", "a\n\nb"),
    ],
)
def test_markdown_looks_the_same_in_slack(markdown: str, shown: str) -> None:
    assert to_mrkdwn(markdown) == shown


@pytest.mark.parametrize(
    "ping", ["<!channel>", "<!here|here>", "<@U123>", "<#C1|x>", "<!subteam^S1>", "&lt;!channel&gt;"]
)
@pytest.mark.parametrize(
    "around", ["{}", "**{}**", "`{}`", "```\n{}\n```", "# {}", "|{}|\n|-|\n|{}|", "[{}](https://x.y)"]
)
def test_no_answer_pings_anybody(ping: str, around: str) -> None:
    shown = to_mrkdwn(around.format(ping, ping))
    assert not re.search(r"<[!@#]", shown)


@given(MARKDOWN)
def test_the_only_angle_brackets_are_links_to_addresses_that_are_shown(markdown: str) -> None:
    shown = to_mrkdwn(markdown)
    assert "<" not in LINK.sub("", shown)
    assert re.sub(r"&(?:amp|lt|gt);", "", LINK.sub("", shown)).count("&") == 0


@given(MARKDOWN)
def test_every_code_block_is_closed(markdown: str) -> None:
    fences = sum(block.kind in ("fence", "table") for block in blocks_of(markdown))
    assert len(re.findall(r"^```$", to_mrkdwn(markdown), re.M)) >= 2 * fences


@given(st.text(st.characters(categories=["L", "N", "Zs"]), min_size=1).filter(str.strip))
def test_words_without_markup_stay_as_they_are(words: str) -> None:
    assert html.unescape(inline(words)) == words
    assert plain(words) == words


@given(st.lists(st.text(st.characters(exclude_characters="`~\0", exclude_categories=["Cs", "Cc", "Zl", "Zp"]))))
def test_code_keeps_every_character(lines: list[str]) -> None:
    shown = to_mrkdwn("\n".join(["```", *lines, "```"]))
    assert html.unescape(shown) == "\n".join(["```", "\n".join(lines), "```"])


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "piece", ["*a", "_a ", "`", "[", "[a](", "**", "~~x", "<", "| ", "> ", "\\", "![", "(", "***a"]
)
def test_hostile_markup_takes_no_time(piece: str) -> None:
    """A session's answers go through one process: a line must not hold it up."""
    to_mrkdwn(piece * 5_000)
    to_mrkdwn(f"x {piece * 5_000} x")

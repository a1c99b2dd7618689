"""A streamed answer in pieces: whatever the pieces' edges are, the same blocks come out, each once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_session.terminal.blocks import CODE_LINES, Block, Lines, Markdown

ANSWER = """# Title
First line
second line

- one
- two
  more of two

  a paragraph of two
  - below two
3. three

```python title
def f():

    return `1`
```
after

~~~
```
~~~
| a | b |
|---|---|
| 1 | 2 |
"""


def blocks_of(text: str, *cuts: int) -> list[Block]:
    stream, found, start = Markdown(), list[Block](), 0
    for cut in [*sorted(cuts), len(text)]:
        found += stream.feed(text[start:cut])
        start = cut
    found += stream.finish()
    assert stream.tail == ""
    return found


def test_an_answer_falls_into_blocks_that_never_change_again() -> None:
    assert [(block.text, block.code, block.close) for block in blocks_of(ANSWER)] == [
        ("# Title", False, False),
        ("First line\nsecond line", False, False),
        ("- one", False, False),
        ("- two\n  more of two\n\n  a paragraph of two\n  - below two", False, True),
        ("3. three", False, True),
        ("def f():\n\n    return `1`", True, False),
        ("after", False, False),
        ("```", True, False),
        ("| a | b |\n|---|---|\n| 1 | 2 |", False, False),
    ]


@given(st.lists(st.integers(0, len(ANSWER)), max_size=12))
def test_the_edges_of_the_pieces_do_not_matter(cuts: list[int]) -> None:
    assert blocks_of(ANSWER, *cuts) == blocks_of(ANSWER)


@given(st.text(st.sampled_from("a1 -*`~#.\n"), max_size=80))
def test_no_letter_is_lost_whatever_the_text_is(text: str) -> None:
    shown = "".join(block.text + block.language for block in blocks_of(text))
    assert shown.count("a") == text.count("a") or "```" in text or "~~~" in text


def test_what_is_not_complete_is_the_tail() -> None:
    stream = Markdown()
    assert stream.feed("One\ntwo") == []
    assert stream.tail == "One\ntwo"
    assert [block.text for block in stream.feed("\n\nthree")] == ["One\ntwo"]
    assert stream.tail == "three"


def test_a_list_item_is_complete_when_the_next_begins() -> None:
    stream = Markdown()
    assert [block.text for block in stream.feed("- one\n- two\n")] == ["- one"]
    assert stream.tail_is_close


def test_a_long_fence_comes_in_parts_and_an_open_one_is_not_lost() -> None:
    lines = "\n".join(str(number) for number in range(CODE_LINES + 5))
    first, rest = blocks_of(f"```\n{lines}")
    assert (first.text + "\n" + rest.text, first.close, rest.close) == (lines, False, True)


def test_a_fence_in_a_list_loses_its_indentation_only() -> None:
    (item, code) = blocks_of("1. do\n   ```sh\n   if x\n     y\n   ```\n")
    assert (item.text, code.text, code.indent) == ("1. do", "if x\n  y", 3)


@pytest.mark.parametrize("text", ["a\nb\nc", "a\nb\nc\n"])
def test_without_a_cursor_each_line_comes_as_it_is(text: str) -> None:
    stream = Lines()
    found = [*stream.feed(text[:3]), *stream.feed(text[3:]), *stream.finish()]
    assert [block.text for block in found] == ["a", "b", "c"]

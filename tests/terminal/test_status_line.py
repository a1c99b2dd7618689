"""The line at the bottom: what matters most stays when there is little room."""

import pytest

from agent_session.domain.status_words import amount
from agent_session.terminal.look import Look
from agent_session.terminal.status_line import Facts, status_line

FACTS = Facts(
    key="main",
    tools=[("shell", 38)],
    step=3,
    queue=1,
    tokens=12_345,
    cost_microusd=12_300,
    model="anthropic:claude",
)


def test_all_of_it_where_there_is_room() -> None:
    expected = "main · shell 38 s · step 3 · 1 queued · 12k tokens · $0.0123 · anthropic:claude"
    assert status_line(FACTS, 100, Look()) == expected


def test_narrow_screens_keep_what_it_does() -> None:
    assert status_line(FACTS, 60, Look()) == "main · shell 38 s · 1 queued · $0.0123 · anthropic:claude"
    assert status_line(FACTS, 40, Look()) == "main · shell 38 s · 1 queued · $0.0123"
    assert status_line(FACTS, 20, Look()) == "main · shell 38 s"
    assert status_line(FACTS, 12, Look()) == "shell 38 s"
    assert status_line(FACTS, 6, Look()) == "shel…"


@pytest.mark.parametrize("width", range(3, 120))
def test_it_never_reaches_the_last_column(width: int) -> None:
    assert len(status_line(FACTS, width, Look())) <= width - 1


def test_ascii_where_the_locale_says_so() -> None:
    assert status_line(FACTS, 100, Look(unicode=False)).isascii()


def test_counts() -> None:
    assert [amount(n) for n in (412, 1_234, 38_200, 1_500_000)] == ["412", "1.2k", "38k", "1.5M"]

"""What a watcher reads while a step waits for its next try."""

import pytest

from agent_session.activities.faults import ordinal, retry_text


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (21, "21st"),
        (22, "22nd"),
        (23, "23rd"),
        (101, "101st"),
        (111, "111th"),
        (112, "112th"),
    ],
)
def test_ordinals_as_people_write_them(number: int, words: str) -> None:
    assert ordinal(number) == words


def test_a_retry_says_why_when_and_which_try_it_will_be() -> None:
    assert retry_text("rate_limit", 8.0, 3) == "rate limited: retrying in 8 s (3rd try)"
    assert retry_text("overloaded", 1.2, 2) == "the provider is overloaded: retrying in 2 s (2nd try)"
    assert retry_text("no such word", 0.2, 4) == "something failed: retrying in 1 s (4th try)"

"""Server-sent events are read the same, however the network cuts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_session.remote import sse
from agent_session.remote.sse import COMMENT, EventParser, ServerEvent

DATA = st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b"").replace(b"\r", b""))
EVENTS = st.lists(
    st.builds(ServerEvent, st.sampled_from(["line", "live", ""]), DATA, st.sampled_from(["", "7"])), max_size=6
)


def written(event: ServerEvent, newline: bytes) -> bytes:
    lines = [f"id: {event.id}".encode()] if event.id else []
    lines += [f"event: {event.kind}".encode()] if event.kind else []
    return newline.join([*lines, b"data: " + event.data, b"", b""])


@given(EVENTS, st.sampled_from([b"\n", b"\r\n"]), st.lists(st.integers(1, 9), min_size=1))
def test_what_was_written_is_read_wherever_it_is_cut(
    events: list[ServerEvent], newline: bytes, cuts: list[int]
) -> None:
    raw, parser, found, at = b"".join(written(one, newline) for one in events), EventParser(), list[ServerEvent](), 0
    while at < len(raw):
        size = cuts[len(found) % len(cuts)]
        found += parser.feed(raw[at : at + size])
        at += size
    assert found == events


def test_comments_fields_that_nobody_knows_and_several_lines_of_data() -> None:
    raw = b": keep-alive\n\nretry: 1000\nid: 3\n\nevent: line\nwhat: ever\ndata:one\ndata: two\nid: 4\n\n: now\n\n"
    assert EventParser().feed(raw) == [
        ServerEvent(COMMENT, b"keep-alive"),
        ServerEvent("line", b"one\ntwo", "4"),
        ServerEvent(COMMENT, b"now"),
    ]


def test_an_event_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LONGEST_BYTES", 1_000)
    for piece in (b"x" * 600, b"data: " + b"x" * 590 + b"\n"):
        parser = EventParser()
        assert parser.feed(piece) == []
        with pytest.raises(ValueError, match="sent an event"):
            parser.feed(piece)

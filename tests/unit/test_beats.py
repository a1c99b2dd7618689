"""Heartbeats: what a session keeps of them, when they may beat, and what HEARTBEAT.md says."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_session.domain.beats import BUDGET, BUSY, OK, SKIPS, Beats, says_ok
from agent_session.domain.status import Status
from agent_session.domain.status_words import status_lines
from agent_session.domain.wire import from_wire, to_wire
from agent_session.paths import TooLarge, UnsafePath
from agent_session.scheduled.heartbeat_content import (
    CONTENT_BYTES,
    digest_of,
    has_something,
    read_content,
    words_of_beat,
)
from agent_session.scheduled.heartbeat_file import (
    HEARTBEAT_FILE,
    Heartbeat,
    Skips,
    forget_heartbeat,
    read_heartbeat,
    read_skips,
    write_heartbeat,
    write_skips,
)
from agent_session.scheduled.heartbeat_hours import BadHours, checked_hours, is_active
from agent_session.scheduled.heartbeat_temporal import schedule_of
from agent_session.scheduled.last_place import last_place
from agent_session.transcript import lines as L
from agent_session.transcript.volume import Volume

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
SECRET = b"a key of tests"


@pytest.mark.parametrize(
    "text",
    [OK, f" {OK}\n", f"**{OK}**", f"`{OK}`.", f"_{OK}_", f"“{OK}”!", f"<b>{OK}</b>", f"# {OK}", "heartbeat_ok", ""],
)
def test_an_answer_that_only_says_ok_is_known_in_its_markup(text: str) -> None:
    assert says_ok(text)


@pytest.mark.parametrize(
    "text",
    [
        f"{OK}, but the disk is full",
        "All is well.",
        f"{OK} 3",
        f"NOT_{OK}",
        f"{OK}\n{OK}",
        "HEARTBEAT",
        OK + "." * 9000,
    ],
)
def test_an_answer_that_says_more_is_told(text: str) -> None:
    assert not says_ok(text)


def test_tokens_are_counted_by_the_utc_day() -> None:
    late = int(datetime(2026, 11, 21, 23, 59, 59, tzinfo=UTC).timestamp())
    beats = Beats().spending(100, late - 60).spending(20, late)
    assert beats.tokens_on(late) == 120
    assert beats.tokens_on(late + 1) == 0
    assert beats.spending(5, late + 1).tokens_on(late + 1) == 5


def test_skips_and_ends_are_counted_and_survive_the_wire() -> None:
    beats = Beats().skipping(BUSY, 10).ending("answered", 20).skipping(BUDGET, 30)
    assert (beats.ran, beats.outcome, beats.skipped, beats.skip, beats.skip_s) == (1, "answered", 2, BUDGET, 30)
    assert from_wire(Beats, to_wire(beats)) == beats
    assert to_wire(Beats()) == {}


def test_status_says_how_beats_went_and_why_one_was_skipped() -> None:
    plain = status_lines(Status(key="main"), 1_000)
    assert not any("heartbeats" in line for line in plain)
    status = Status(
        key="main", beats=3, beat_outcome="quiet", beat_s=940, beats_skipped=2, beat_skip=BUSY, beat_skip_s=990
    )
    (line,) = [line for line in status_lines(status, 1_000) if "heartbeats" in line]
    assert line == f"  heartbeats: 3 ran, the last 01:00 ago: quiet · 2 skipped, the last 00:10 ago: {SKIPS[BUSY]}"


@pytest.mark.parametrize(
    ("hours", "zone", "time", "active"),
    [
        ("08:00-23:00", "UTC", "2026-11-21T08:00:00+00:00", True),
        ("08:00-23:00", "UTC", "2026-11-21T07:59:59+00:00", False),
        ("08:00-23:00", "UTC", "2026-11-21T22:59:59+00:00", True),
        ("08:00-23:00", "UTC", "2026-11-21T23:00:00+00:00", False),
        ("08:00-23:00", "Europe/Rome", "2026-11-21T07:30:00+00:00", True),  # winter: an hour before UTC
        ("08:00-23:00", "Europe/Rome", "2026-07-21T06:30:00+00:00", True),  # summer: two
        ("08:00-23:00", "Europe/Rome", "2026-07-21T05:30:00+00:00", False),
        ("22:00-06:00", "UTC", "2026-11-21T23:30:00+00:00", True),  # over midnight
        ("22:00-06:00", "UTC", "2026-11-22T05:59:00+00:00", True),
        ("22:00-06:00", "UTC", "2026-11-22T06:00:00+00:00", False),
        ("22:00-24:00", "UTC", "2026-11-21T23:59:59+00:00", True),
        ("22:00-24:00", "UTC", "2026-11-22T00:00:00+00:00", False),
        ("", "UTC", "2026-11-22T03:00:00+00:00", True),
    ],
)
def test_active_hours_go_by_the_clock_of_their_zone(hours: str, zone: str, time: str, active: bool) -> None:
    assert is_active(hours, zone, datetime.fromisoformat(time).timestamp()) == active


def test_an_hour_that_comes_twice_is_active_twice_and_one_leapt_over_never_comes() -> None:
    """Rome, 2026: clocks go back on 25 October at 3:00, and forward on 29 March at 2:00."""
    twice = [datetime(2026, 10, 25, hour, 30, tzinfo=UTC).timestamp() for hour in range(4)]
    assert [is_active("02:00-03:00", "Europe/Rome", time) for time in twice] == [True, True, False, False]
    leapt = [datetime(2026, 3, 29, hour, 30, tzinfo=UTC).timestamp() for hour in range(4)]
    assert not any(is_active("02:00-03:00", "Europe/Rome", time) for time in leapt)


def test_active_hours_have_one_spelling() -> None:
    assert checked_hours(" 8:00 - 23:00 ") == "08:00-23:00"
    assert [checked_hours(text) for text in ("", "always", "00:00-24:00")] == ["", "", ""]


@pytest.mark.parametrize(
    "text", ["8-23", "08:00", "08:00-25:00", "24:00-08:00", "08:60-09:00", "09:00-09:00", "x" * 99]
)
def test_hours_that_are_none_are_refused_by_name(text: str) -> None:
    with pytest.raises(BadHours, match=text[:20]):
        checked_hours(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "\n \n", "# Heartbeat\n\n## Mails\n", "<!-- later: the disk -->\n# Title", "- \n* [ ]\n-",
        "<!-- open\nnever closed", "a <!--", "```\n```\n---",
    ],
)  # fmt: skip
def test_headings_comments_and_empty_items_are_nothing_to_do(text: str) -> None:
    assert has_something(text.encode()) == text.startswith("a ")


@pytest.mark.parametrize("text", ["look at the disk", "- [ ] answer mails", "# A\nb", "<!-- a -->b", "-> go", "- x"])
def test_a_line_that_says_something_is_something_to_do(text: str) -> None:
    assert has_something(text.encode())


def test_many_open_comments_are_read_quickly() -> None:
    assert not has_something(b"<!--" * (CONTENT_BYTES // 4))


def test_the_words_of_a_beat_hold_what_was_approved_and_the_time_in_its_zone() -> None:
    words = words_of_beat(b"# Disk\nlook at the disk\n", int(NOON), "Europe/Rome")
    assert "# Disk\nlook at the disk" in words
    assert "2026-11-21 13:00" in words
    assert OK in words
    assert words == words_of_beat(b"# Disk\nlook at the disk\n", int(NOON), "Europe/Rome")


def test_a_link_and_a_file_that_is_too_large_are_refused(tmp_path: Path) -> None:
    """I11"""
    (tmp_path / "elsewhere").write_text("secret")
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    assert read_content(workspace) == b""
    (workspace / "HEARTBEAT.md").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafePath):
        read_content(workspace)
    (workspace / "HEARTBEAT.md").unlink()
    (workspace / "HEARTBEAT.md").write_bytes(b"x" * (CONTENT_BYTES + 1))
    with pytest.raises(TooLarge):
        read_content(workspace)


def test_what_a_person_set_counts_only_as_it_was_signed(volume: Volume) -> None:
    """I10: neither another session's, nor a changed one, nor one of another key."""
    heartbeat = Heartbeat(every_s=60, target="file:out", approved=digest_of(b"x"))
    write_heartbeat(volume, "a", SECRET, heartbeat)
    found = read_heartbeat(volume, "a", SECRET)
    assert found is not None
    assert (found.every_s, found.target, found.approved) == (60, "file:out", heartbeat.approved)
    assert read_heartbeat(volume, "a", b"another key") is None
    path = volume.path_of("a") / HEARTBEAT_FILE
    whole = path.read_bytes()
    with volume.session_folder("b", create=True):
        (volume.path_of("b") / HEARTBEAT_FILE).write_bytes(whole)
    assert read_heartbeat(volume, "b", SECRET) is None
    for damaged in (whole.replace(b"file:out", b"file:bad"), b"{}", b"[]", b"not json"):
        path.write_bytes(damaged)
        assert read_heartbeat(volume, "a", SECRET) is None
    assert read_heartbeat(volume, "never", SECRET) is None


def test_a_heartbeat_that_an_older_version_signed_is_still_taken(volume: Volume) -> None:
    made = Heartbeat(target="file:alerts", approved="ab", approved_by="local:ann", approved_s=2, set_s=1)
    write_heartbeat(volume, "main", b"k" * 32, made)
    found = read_heartbeat(volume, "main", b"k" * 32)
    assert found is not None
    assert found.mac == "c6e5ebb7be44023a1d6914494e92fde6"


def test_skips_are_kept_only_for_a_session_that_there_is(volume: Volume) -> None:
    write_skips(volume, "never", Skips(reason=BUSY))
    assert not volume.path_of("never").exists()
    assert read_skips(volume, "never") == Skips()
    write_heartbeat(volume, "a", SECRET, Heartbeat())
    write_skips(volume, "a", Skips(reason=BUSY, count=2))
    assert read_skips(volume, "a") == Skips(reason=BUSY, count=2)
    assert forget_heartbeat(volume, "a")
    assert not forget_heartbeat(volume, "a")
    assert read_skips(volume, "a") == Skips()


def transcript(volume: Volume, key: str, *lines: dict[str, object]) -> None:
    with volume.session_folder(key, create=True):
        data = b"".join(L.encode(dict(line), number, 1) for number, line in enumerate(lines, 1))
        (volume.path_of(key) / "history.jsonl").write_bytes(data)


def test_the_last_place_is_the_one_a_person_wrote_from_and_that_can_be_posted_to(volume: Volume) -> None:
    user = [
        L.user_line("t-1", "a", "hi", reply_address="file:first"),
        L.user_line("t-2", "b", "hi", reply_address="slack:C1"),
        L.user_line("t-3", "c", "at a terminal"),
        L.user_line("t-4", "d", "beat", kind="heartbeat", reply_address="file:beat"),
        L.user_line("t-5", "e", "cron", kind="schedule", reply_address="file:cron"),
    ]
    transcript(volume, "a", *user)
    assert last_place(volume, "a") == "slack:C1"
    assert last_place(volume, "a", ["file"]) == "file:first"
    assert last_place(volume, "a", []) == ""
    assert last_place(volume, "never") == ""


def test_the_last_place_is_not_searched_for_without_an_end(volume: Volume) -> None:
    first = L.user_line("t-0", "a", "hi", reply_address="file:first")
    transcript(volume, "a", first, *(L.event_line(f"t-{n}", L.ENDED) for n in range(999)))
    assert last_place(volume, "a") == "file:first"
    transcript(volume, "a", first, *(L.event_line(f"t-{n}", L.ENDED) for n in range(1_000)))
    assert last_place(volume, "a") == ""


def test_a_schedule_skips_what_overlaps_catches_up_little_and_carries_no_authority() -> None:
    """I10: a target or an approval in Temporal could be changed by whoever reaches it."""
    heartbeat = Heartbeat(every_s=1_800, jitter_s=10, set_s=int(NOON) + 7, target="file:out", approved="f" * 64)
    made = schedule_of("main", heartbeat, "q")
    assert vars(made.action)["args"] == [{"key": "main"}]
    assert made.policy.overlap.name == "SKIP"
    assert made.policy.catchup_window.total_seconds() == 60
    assert schedule_of("main", Heartbeat(every_s=1), "q").policy.catchup_window.total_seconds() == 10
    (interval,) = made.spec.intervals
    assert interval.offset is not None
    assert (NOON + 7 - interval.offset.total_seconds()) % 1_800 == 0, "counted from when it was set"

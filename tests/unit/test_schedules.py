"""Schedules: what people write becomes times; what stands on the volume is what was signed."""

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from agent_session.domain.schedules import (
    BadSchedule,
    Definition,
    NoSuchSchedule,
    Wanted,
    When,
    checked_for_isolation,
    checked_target,
    checked_text,
    key_and_name,
    message_of,
    run_key,
    schedule_id,
    schedule_name,
    signed,
)
from agent_session.scheduled.schedules_cron import checked_cron, is_echo, matches, time_name
from agent_session.scheduled.schedules_store import Definitions, Forged
from agent_session.scheduled.schedules_when import in_words, local, local_time_zone, seconds_of, when_of
from agent_session.settings import BadSettings, load_settings
from agent_session.transcript.volume import Volume

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC).timestamp()


def when(**given: str) -> When:
    return when_of(Wanted(text="x", **given), NOW, "Europe/Rome")


def utc(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat()


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("20m", 1_200), ("1h30m", 5_400), (" 2D ", 172_800)])
def test_a_time_span_is_read(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "m", "-1m", "1.5h", "20 m", "0s", "99999d", "9999999999s", "1w", "١m"])
def test_what_is_no_time_span_is_refused(text: str) -> None:
    with pytest.raises(BadSchedule):
        seconds_of(text)


def test_a_time_is_of_its_zone_or_of_the_one_in_force_and_winter_and_summer_differ() -> None:
    assert utc(when(at="2026-12-01T09:00").at_s) == "2026-12-01T08:00:00+00:00"
    assert utc(when(at="2026-07-01 09:00").at_s) == "2026-07-01T07:00:00+00:00"
    assert utc(when(at="2026-07-01T09:00", time_zone="America/New_York").at_s) == "2026-07-01T13:00:00+00:00"
    assert utc(when(at="2026-07-01T09:00:30Z").at_s) == "2026-07-01T09:00:30+00:00"
    assert utc(when(at="2026-07-01T09:00+05:30").at_s) == "2026-07-01T03:30:00+00:00"


def test_a_time_that_clocks_leap_over_is_refused_and_one_that_comes_twice_is_the_first() -> None:
    with pytest.raises(BadSchedule, match="no 2026-03-29T02:30 in Europe/Rome"):
        when(at="2026-03-29T02:30")
    assert utc(when(at="2026-03-29T03:00").at_s) == "2026-03-29T01:00:00+00:00"
    assert utc(when(at="2026-10-25T02:30").at_s) == "2026-10-25T00:30:00+00:00"
    assert utc(when(at="2026-10-25T03:00").at_s) == "2026-10-25T02:00:00+00:00"


def test_an_instant_is_shown_in_its_own_zone() -> None:
    assert local(when(at="2026-10-25T02:30").at_s, "Europe/Rome") == "2026-10-25 02:30"
    assert in_words(when(at="2026-07-01T09:00:30")) == "at 2026-07-01 09:00:30"
    assert in_words(when(every="90m")) == "every 1h30m"
    assert in_words(when(cron="0 9 * * 1-5")) == "cron 0 9 * * 1-5"


@pytest.mark.parametrize(("given", "words"), [
    ({"at": "2026-02-01T09:00"}, "has passed"),
    ({"at": "2026-12-01"}, "write day and time"),
    ({"at": "tomorrow"}, "write day and time"),
    ({"at": "2050-12-01T09:00"}, "ten years"),
    ({"at": "2026-12-01T09:00Z", "time_zone": "UTC"}, "leave the time zone out"),
    ({"at": "2026-12-01T09:00", "time_zone": "Mars/Base"}, "no time zone"),
    ({"at": "2026-12-01T09:00", "time_zone": "../etc/passwd"}, "no time zone"),
    ({"within": "20m", "time_zone": "UTC"}, "leave it out"),
    ({"every": "30m", "time_zone": "UTC"}, "leave it out"),
    ({}, "in one way"),
    ({"at": "2026-12-01T09:00", "every": "30m"}, "in one way"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_what_to_do(given: dict[str, str], words: str) -> None:
    with pytest.raises(BadSchedule, match=words):
        when(**given)


def test_an_agent_may_not_be_told_things_as_often_as_a_person_may_ask_for() -> None:
    assert when(every="1s").every_s == 1
    with pytest.raises(BadSchedule, match="too often: at least 10 s"):
        when_of(Wanted(text="x", every="9s"), NOW, "UTC", least_every_s=10)


@pytest.mark.parametrize("text", [
    "0 9 * * 1-5", "*/5 * * * *", "0 0,12 1 */2 *", "30 9 * jan-mar mon,wed", "0 9 * * sunday", "0 9 * * 7", "@daily",
    "5/15 8-18/2 * * 0",
])  # fmt: skip
def test_a_cron_expression_is_taken_as_it_is(text: str) -> None:
    assert checked_cron(f"  {text.upper()} ") == text


@pytest.mark.parametrize(("text", "words"), [
    ("", "five fields"),
    ("0 9 * *", "five fields"),
    ("0 0 9 * * 1", "five fields"),
    ("@every 5m", "five fields"),
    ("@reboot", "five fields"),
    ("60 9 * * *", "the minute '60'.*0 to 59"),
    ("0 24 * * *", "the hour '24'.*0 to 23"),
    ("0 9 0 * *", "the day of the month '0'.*1 to 31"),
    ("0 9 * 13 *", "the month '13'.*1 to 12"),
    ("0 9 * * 8", "the day of the week '8'.*0 to 7"),
    ("0 9 * * someday", "the day of the week 'someday'.*not understood"),
    ("0 9 * * 5-1", "ends before it begins"),
    ("*/0 9 * * *", "the step '0'"),
    ("0 9,, * * *", "not understood"),
    ("TZ=Europe/Rome 0 9 * * *", "name it apart"),
    ("0 9 L * *", "not understood"),
])  # fmt: skip
def test_a_bad_cron_expression_is_refused_with_the_field_named(text: str, words: str) -> None:
    with pytest.raises(BadSchedule, match=words):
        checked_cron(text)


@pytest.mark.parametrize(("cron", "fits", "does_not"), [
    ("0 9 * * 1-5", "2026-11-23T09:00", "2026-11-22T09:00"),
    ("0 9 * * 7", "2026-11-22T09:00", "2026-11-23T09:00"),
    ("5/15 * * * *", "2026-11-22T09:35", "2026-11-22T09:00"),
    ("0 8-18/5 1,15 jan-mar *", "2026-02-15T13:00", "2026-02-15T12:00"),
    ("0 0 13 * fri", "2026-11-13T00:00", "2026-11-14T00:00"),
    ("@yearly", "2026-01-01T00:00", "2026-01-02T00:00"),
])  # fmt: skip
def test_a_cron_expression_fits_what_a_clock_shows(cron: str, fits: str, does_not: str) -> None:
    assert matches(checked_cron(cron), datetime.fromisoformat(fits))
    assert not matches(checked_cron(cron), datetime.fromisoformat(does_not))


def epoch(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def test_an_hour_that_comes_twice_is_one_time_where_an_expression_names_it_and_two_where_it_means_every_hour() -> None:
    first, second = epoch("2027-11-07T01:30-04:00"), epoch("2027-11-07T01:30-05:00")
    named, every = (When(cron=cron, time_zone="America/New_York") for cron in ("30 1 * * *", "30 * * * *"))
    assert time_name(named, first) == time_name(named, second)
    assert time_name(every, first) != time_name(every, second)
    assert time_name(named, first) != time_name(named, first + 86_400)
    assert time_name(When(every_s=60), first) != time_name(When(every_s=60), second)


def test_an_echo_that_no_clock_shows_is_known_and_nothing_else_is_one() -> None:
    rome = When(cron="30 1 * * *", time_zone="Europe/Rome")
    assert is_echo(rome, epoch("2027-10-31T02:30+02:00"))
    for due in ("2027-10-31T01:30+02:00", "2027-10-31T12:00+01:00", "2027-10-30T02:30+02:00", "2027-03-28T03:30+02:00"):
        assert not is_echo(rome, epoch(due))
    both = When(cron="30 1,2 * * *", time_zone="Europe/Rome")
    assert not is_echo(both, epoch("2027-10-31T02:30+02:00"))
    assert not is_echo(When(every_s=3_600), epoch("2027-10-31T02:30+02:00"))


@pytest.fixture
def tz() -> Iterator[None]:
    before = os.environ.get("TZ")
    yield
    os.environ.pop("TZ", None)
    if before is not None:
        os.environ["TZ"] = before


@pytest.mark.parametrize(("said", "zone"), [("Asia/Tokyo", "Asia/Tokyo"), (":Asia/Tokyo", "Asia/Tokyo")])
def test_the_machines_time_zone_is_the_one_that_TZ_names(tz: None, said: str, zone: str) -> None:
    os.environ["TZ"] = said
    assert local_time_zone() == zone


def test_a_TZ_that_names_no_place_is_left_aside(tz: None) -> None:
    os.environ["TZ"] = "XYZ-1"
    assert local_time_zone() != "XYZ-1"


def test_a_time_zone_in_the_settings_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"schedule\.time_zone"):
        load_settings({"data_dir": tmp_path, "schedule": {"time_zone": "Mars/Base"}})


@pytest.mark.parametrize("name", ["", "Standup", "a/b", "..", "-x", "x" * 41, "a b", "ä"])
def test_a_name_that_could_be_taken_for_something_else_is_refused(name: str) -> None:
    with pytest.raises(BadSchedule, match="no name"):
        schedule_name(name)


def test_an_id_belongs_to_one_session_and_name_alone() -> None:
    assert key_and_name(schedule_id("team/a", "b")) == ("team/a", "b")
    assert schedule_id("team", "b") != schedule_id("team/b", "b")
    for foreign in ("heartbeat/main", "schedule/main", "schedule//x", "schedule/main/X"):
        assert key_and_name(foreign) is None


@pytest.mark.parametrize("target", ["", "nowhere", "file:", "File:x", "file:a b", "last:"])
def test_a_target_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(BadSchedule, match="no target"):
        checked_target(target)


def test_words_must_be_there_and_fit() -> None:
    for text in ("", " \n", "x" * 70_000):
        with pytest.raises(BadSchedule):
            checked_text(text)


def test_a_key_that_leaves_no_room_for_isolated_runs_is_refused() -> None:
    longest = "k" * 134
    definition = Definition(session=checked_for_isolation(longest), name="n" * 40, text="x")
    assert len(run_key(definition, "2026-12-01T09:00:00Z")) <= 200
    with pytest.raises(BadSchedule, match="too long"):
        checked_for_isolation(longest + "k")


def test_a_one_shot_speaks_once_and_another_each_time() -> None:
    once = Definition(session="s", name="n", text="x", when=When(at_s=7), mac="a" * 32)
    often = replace(once, when=When(every_s=60))
    assert message_of(once, "t1") == message_of(once, "t2")
    assert message_of(often, "t1") != message_of(often, "t2")
    assert message_of(once, "t1") != message_of(replace(once, mac="b" * 32), "t1")


def test_a_definition_is_read_as_it_was_stored_and_its_name_is_given_once(volume: Volume) -> None:
    definitions = Definitions(volume, b"key")
    stored = definitions.put_new(Definition(session="s", name="n", text="grüße", when=When(every_s=60)))
    assert stored is not None
    assert definitions.read("s", "n") == stored
    assert definitions.put_new(Definition(session="s", name="n", text="other")) is None
    assert definitions.names("s") == ["n"]
    assert definitions.names("other") == []
    definitions.remove("s", "n")
    definitions.remove("s", "n")
    with pytest.raises(NoSuchSchedule):
        definitions.read("s", "n")
    assert os.listdir(volume.path_of("s") / "schedules") == []


@pytest.mark.parametrize("field", ["text", "target", "session", "name", "isolated", "when", "mac", "made_by"])
def test_a_definition_that_was_changed_is_no_definition(volume: Volume, field: str) -> None:
    definitions = Definitions(volume, b"key")
    definitions.put_new(Definition(session="s", name="n", text="hello", when=When(every_s=60)))
    path = volume.path_of("s") / "schedules" / "n.json"
    raw = orjson.loads(path.read_bytes())
    changed = {"isolated": True, "when": {"every_s": 1}}.get(field, "evil")
    path.write_bytes(orjson.dumps({**raw, field: changed}))
    with pytest.raises(Forged, match="not signed"):
        definitions.read("s", "n")


def test_definitions_that_older_versions_signed_are_still_taken() -> None:
    when = When(cron="0 9 * * 1-5", time_zone="Europe/Rome")
    made = Definition(
        session="main",
        name="standup",
        text="what is open?",
        when=when,
        target="file:notes",
        made_by="local:ann",
        made_s=1,
    )
    assert signed(b"k" * 32, made).mac == "739bbab84bd92c4e87795caa043f0d91"


def test_a_definition_of_another_session_or_key_or_a_link_is_no_definition(volume: Volume, tmp_path: Path) -> None:
    definitions = Definitions(volume, b"key")
    definitions.put_new(Definition(session="s", name="n", text="hello"))
    whole = (volume.path_of("s") / "schedules" / "n.json").read_bytes()
    with pytest.raises(Forged):
        Definitions(volume, b"other key").read("s", "n")
    with volume.session_folder("s2", "schedules", create=True):
        (volume.path_of("s2") / "schedules" / "n.json").write_bytes(whole)
    with pytest.raises(Forged):
        definitions.read("s2", "n")
    for name, content in (("torn", whole[:20]), ("list", b"[]"), ("mac", b'{"mac": 7}')):
        (volume.path_of("s") / "schedules" / f"{name}.json").write_bytes(content)
        with pytest.raises(Forged):
            definitions.read("s", name)
    (tmp_path / "outside.json").write_bytes(whole)
    (volume.path_of("s") / "schedules" / "link.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(Forged, match="link"):
        definitions.read("s", "link")

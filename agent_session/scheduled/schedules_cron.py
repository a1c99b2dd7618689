"""Cron expressions: checked early, so that a bad one is refused with its field named, and what Temporal makes of them
on the day when clocks are put back. When each comes is Temporal's to say.

Temporal's own rules on that day differ by zone: a time in the hour that comes twice comes twice in America, once in
Europe; and in Europe one in the hour before comes again an hour later, when the clock does not show it at all. Here
a named hour is one time a day: the second is the same message, and an echo is none.
"""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

from agent_session.domain.schedules import BadSchedule, When

HOUR_S = 3_600
MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 7, DAYS),
)
SHORTHANDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}


def checked_cron(text: str) -> str:
    """A cron expression in its one spelling. Errors: BadSchedule that names the field."""
    words = text.lower().split()
    if words and words[0].startswith(("cron_tz=", "tz=")):
        raise BadSchedule("leave the time zone out of the cron expression, and name it apart")
    if len(words) == 1 and words[0] in SHORTHANDS:
        return words[0]
    if len(words) != len(FIELDS):
        raise BadSchedule(
            f"{text[:60]!r} is no cron expression: five fields are (minute, hour, day of the month, month, day of the "
            f"week), like 0 9 * * 1-5; or one of {', '.join(SHORTHANDS)}"
        )
    _fields(" ".join(words))
    return " ".join(words)


def matches(cron: str, wall: datetime) -> bool:
    """Whether a clock that shows `wall` shows a time of the expression."""
    minutes, hours, days, months, weekdays = _fields(SHORTHANDS.get(cron, cron))
    day = wall.isoweekday() % 7 in {one % 7 for one in weekdays} and wall.day in days and wall.month in months
    return day and wall.hour in hours and wall.minute in minutes


def is_echo(when: When, due_s: int) -> bool:
    """Whether Temporal names a time that no clock shows: an hour after one that was due when clocks are put back."""
    if not when.cron:
        return False
    zone = ZoneInfo(when.time_zone)
    wall, before = (datetime.fromtimestamp(time, zone) for time in (due_s, due_s - HOUR_S))
    later = datetime.fromtimestamp(due_s + 3 * HOUR_S, zone).utcoffset()
    earlier = datetime.fromtimestamp(due_s - 3 * HOUR_S, zone).utcoffset()
    put_back = later is not None and earlier is not None and later < earlier
    return put_back and not matches(when.cron, wall) and matches(when.cron, before)


def time_name(when: When, due_s: int) -> str:
    """The name of one time: the clock on the wall where a cron expression names hours, so that one which comes twice
    that day is one time; else UTC."""
    named_hours = when.cron and not SHORTHANDS.get(when.cron, when.cron).split()[1].startswith("*")
    if named_hours:
        return f"{datetime.fromtimestamp(due_s, ZoneInfo(when.time_zone)):%Y-%m-%dT%H:%M:%S}"
    return f"{datetime.fromtimestamp(due_s, ZoneInfo('UTC')):%Y-%m-%dT%H:%M:%SZ}"


def _fields(cron: str) -> list[set[int]]:
    return [_values(word, *field) for word, field in zip(cron.split(), FIELDS, strict=True)]


def _values(word: str, what: str, least: int, most: int, names: tuple[str, ...]) -> set[int]:
    def bad(why: str) -> BadSchedule:
        return BadSchedule(f"the {what} {word[:40]!r} of the cron expression {why}")

    def number(text: str) -> int:
        named = [at for at, name in enumerate(names, least) if text in (name, name[:3])]
        if not named and not re.fullmatch(r"[0-9]{1,4}", text):
            raise bad(
                f"is not understood: use {least} to {most}, * or lists, ranges and steps of them, like 1-5 or */2"
            )
        value = named[0] if named else int(text)
        if not least <= value <= most:
            raise bad(f"is out of range: use {least} to {most}")
        return value

    found: set[int] = set()
    for part in word.split(","):
        body, slash, step = part.partition("/")
        if slash and not re.fullmatch(r"[1-9][0-9]{0,3}", step):
            raise bad(f"has the step {step[:10]!r}: use a number of at least 1")
        first, dash, last = body.partition("-")
        begin = least if body == "*" else number(first)
        end = number(last) if dash else most if slash or body == "*" else begin
        if begin > end:
            raise bad("has a range that ends before it begins")
        found |= set(range(begin, end + 1, int(step or 1)))
    return found

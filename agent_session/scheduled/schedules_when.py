"""When: what people and the agent write (`20m`, `2026-12-01T09:00`, `0 9 * * 1-5`), as times.

Computes only what must be known early: one-shots become an instant, intervals a number of seconds. No clock of its own:
`now_s` is given.
"""

import math
import os
import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from agent_session.domain.schedules import BadSchedule, Wanted, When
from agent_session.scheduled.schedules_cron import checked_cron

DAY_S = 86_400
LONGEST_S = 10 * 366 * DAY_S
LEAST_EVERY_S, LEAST_EVERY_AGENT_S = 1, 10
UNITS = {"s": 1, "m": 60, "h": 3_600, "d": DAY_S}
DURATION = re.compile(r"(?:[0-9]{1,9}[smhd])+\Z")


def when_of(wanted: Wanted, now_s: float, zone: str, *, least_every_s: int = LEAST_EVERY_S) -> When:
    """The times that are asked for; `zone` where none is named. Errors: BadSchedule."""
    given = [one for one in (wanted.at, wanted.within, wanted.every, wanted.cron) if one.strip()]
    if len(given) != 1:
        raise BadSchedule("say when, in one way: at a time, in a while, every so often, or by a cron expression")
    if wanted.time_zone and (wanted.within or wanted.every):
        raise BadSchedule("a time zone belongs to a time or a cron expression: leave it out")
    zone = time_zone(wanted.time_zone or zone)
    if wanted.at:
        return When(at_s=_instant(wanted.at.strip(), zone, bool(wanted.time_zone), now_s), time_zone=zone)
    if wanted.within:
        return When(at_s=math.ceil(now_s + seconds_of(wanted.within)), time_zone=zone)
    if wanted.every:
        every_s = seconds_of(wanted.every)
        if every_s < least_every_s:
            raise BadSchedule(f"every {wanted.every} is too often: at least {least_every_s} s must lie between")
        return When(every_s=every_s, time_zone=zone)
    return When(cron=checked_cron(wanted.cron), time_zone=zone)


def seconds_of(text: str) -> int:
    """`90s`, `20m`, `1h30m`, `2d`. Errors: BadSchedule."""
    given = text.strip().lower()
    if not DURATION.match(given):
        raise BadSchedule(f"{text[:40]!r} is no time span: write it like 90s, 20m, 1h30m or 2d")
    seconds = sum(int(number) * UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhd])", given))
    if not 1 <= seconds <= LONGEST_S:
        raise BadSchedule(f"{text[:40]!r} is too {'long' if seconds else 'short'}: use between 1s and ten years")
    return seconds


def time_zone(name: str) -> str:
    """The name, where it is one of the IANA database. Errors: BadSchedule."""
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise BadSchedule(f"{name[:60]!r} is no time zone: use a name like Europe/Rome or UTC") from None
    return name


def local_time_zone() -> str:
    """This machine's: of `TZ`, else of /etc/localtime; UTC where they name none."""
    link = os.path.realpath("/etc/localtime").partition("zoneinfo/")[2]
    for name in (os.environ.get("TZ", "").removeprefix(":"), link):
        try:
            return time_zone(name)
        except BadSchedule:
            continue
    return "UTC"


def _instant(text: str, zone: str, zone_given: bool, now_s: float) -> int:
    """A time of day on a day. One that clocks show twice is the first of the two; one that they leap over is
    refused, as is one that has passed. Errors: BadSchedule."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        parsed = None
    if parsed is None or len(text) <= len("2026-12-01"):
        raise BadSchedule(f"{text[:40]!r} is no time: write day and time like 2026-12-01T09:00")
    if parsed.tzinfo is not None and zone_given:
        raise BadSchedule(f"{text} says its own distance from UTC: leave the time zone out")
    if parsed.tzinfo is None:
        aware = parsed.replace(tzinfo=ZoneInfo(zone))
        if aware.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) != parsed:
            raise BadSchedule(f"there is no {text} in {zone}: clocks are put forward past it; choose another time")
        parsed = aware
    at_s = int(parsed.timestamp())
    if at_s <= now_s:
        raise BadSchedule(f"{text} ({zone}) has passed: it is {local(now_s, zone)} there; choose a time to come")
    if at_s > now_s + LONGEST_S:
        raise BadSchedule(f"{text} is more than ten years away: choose an earlier time")
    return at_s


def local(at_s: float, zone: str) -> str:
    """A time as people of that zone write it, to the second where it has seconds."""
    text = datetime.fromtimestamp(at_s, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")
    return text.removesuffix(":00")


def span(seconds: int) -> str:
    """`1h30m`, the way people write it."""
    parts: list[str] = []
    for unit in ("d", "h", "m", "s"):
        count, seconds = divmod(seconds, UNITS[unit])
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts)


def in_words(when: When) -> str:
    """What a list shows."""
    if when.at_s:
        return f"at {local(when.at_s, when.time_zone)}"
    return f"every {span(when.every_s)}" if when.every_s else f"cron {when.cron}"

"""Active hours: the part of a day, by the clock on somebody's wall, in which a heartbeat may beat.

A window may go over midnight. The wall's clock decides, so a change to summer time needs no care: an hour that comes
twice counts twice, one that is leapt over never comes.
"""

import re
from datetime import datetime
from zoneinfo import ZoneInfo

WINDOW = re.compile(r"(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})\Z")
DAY_MINUTES = 24 * 60
ALWAYS = ""


class BadHours(ValueError):
    """Active hours that cannot be understood; the message says what to write."""


def checked_hours(text: str) -> str:
    """In their one spelling, `08:00-23:00`; empty for the whole day. Errors: BadHours."""
    if not text.strip() or text.strip() == "always":
        return ALWAYS
    begin, end = _window(text)
    if begin == end:
        raise BadHours(f"active hours {text!r} hold no time: leave them out for the whole day")
    if (begin, end) == (0, DAY_MINUTES):
        return ALWAYS
    return f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"


def is_active(hours: str, time_zone: str, now_s: float) -> bool:
    """Whether the clock in that zone shows a time in the window: from its first minute on, until its last begins.
    Errors: BadHours."""
    if not hours:
        return True
    begin, end = _window(hours)
    local = datetime.fromtimestamp(now_s, ZoneInfo(time_zone))
    minute = local.hour * 60 + local.minute
    return begin <= minute < end if begin < end else minute >= begin or minute < end


def _window(text: str) -> tuple[int, int]:
    found = WINDOW.match(text.strip())
    if found is None:
        raise BadHours(f"active hours {text[:40]!r} are not understood: write them like 08:00-23:00")
    hours, minutes = (int(found[1]), int(found[3])), (int(found[2]), int(found[4]))
    begin, end = (hour * 60 + minute for hour, minute in zip(hours, minutes, strict=True))
    if max(minutes) > 59 or begin >= DAY_MINUTES or end > DAY_MINUTES:
        raise BadHours(f"active hours {text[:40]!r} are no times of day: use 00:00 to 24:00")
    return begin, end

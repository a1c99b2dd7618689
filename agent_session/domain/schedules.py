"""Schedules: words that are said to a session at times to come.

Pure. Temporal holds the times, and a reference; words and target stand in a definition on the volume, signed
with the key of the data directory (I2, I10): who merely reaches Temporal makes a schedule say nothing of theirs.
"""

import hmac
import re
from dataclasses import dataclass, replace

from agent_session.domain.authority import sign_stored
from agent_session.domain.limits import KEY_BYTES
from agent_session.domain.wire import Wire, from_wire, to_wire

SCHEDULE_CHANNEL = "schedule"  #: where these messages come in
SCHEDULE_PREFIX = "schedule/"
LAST, NONE = "last", "none"  #: targets: where a person last wrote from, and nowhere
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")
ADDRESS = re.compile(r"[a-z][a-z0-9_-]{0,31}:\S{1,220}\Z")
TEXT_BYTES = 64 * 1024
RUN_CHARS = 66  #: that the key of an isolated run has beyond its session's


class BadSchedule(ValueError):
    """A schedule that cannot be made; the message says what was wrong and what to do."""


class NoSuchSchedule(BadSchedule):
    """The session has no schedule of that name."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What somebody asks for, in their own words; exactly one of `at`, `within`, `every` and `cron`."""

    text: str
    at: str = ""  #: 2026-12-01T09:00
    within: str = ""  #: 20m from now
    every: str = ""  #: 30m
    cron: str = ""  #: 0 9 * * 1-5
    time_zone: str = ""  #: of `at` and `cron`
    name: str = ""
    target: str = LAST
    isolated: bool = False
    jitter: str = ""  #: 2m


@dataclass(frozen=True, kw_only=True)
class When:
    """The times of a schedule: one of `at_s`, `every_s` and `cron`."""

    at_s: int = 0  #: once, in seconds since the epoch
    every_s: int = 0
    cron: str = ""
    time_zone: str = "UTC"  #: IANA name; what `cron` means and how `at_s` is shown


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a schedule says, as it stands on the volume."""

    session: str
    name: str
    text: str
    when: When = When()
    target: str = LAST  #: last, none or `<channel>:<place>`
    isolated: bool = False  #: each occurrence is a session of its own, with one turn
    jitter_s: int = 0
    made_by: str = ""  #: principal, for people to read; never authority
    made_s: int = 0
    call: str = ""  #: the tool call that made it: the same call again makes no second one
    mac: str = ""


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """One time has come: what the activity gets. `mac` names the very definition that was scheduled."""

    key: str
    name: str
    mac: str
    due_s: int = 0  #: the scheduled time, in seconds since the epoch


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A schedule as lists show it. Times are seconds since the epoch, 0 for never."""

    session: str
    name: str
    state: str  #: active, paused, due (its message is on its way), over, lost (Temporal does not have it), forged
    when: str = ""
    time_zone: str = "UTC"
    text: str = ""
    target: str = LAST
    isolated: bool = False
    made_by: str = ""
    next_s: tuple[int, ...] = ()  #: at most ten
    last_s: int = 0
    fired: int = 0  #: times that it was due and its message was sent, or is being sent
    skipped: int = 0  #: times that it was due while the message before was not yet sent
    missed: int = 0  #: times that Temporal was away for longer than the catch-up window


def schedule_name(text: str) -> str:
    """A name as people give it. Errors: BadSchedule."""
    if not NAME.match(text):
        raise BadSchedule(f"{text[:60]!r} is no name for a schedule: use up to 40 of a-z, 0-9, - and _, like standup")
    return text


def schedule_id(key: str, name: str) -> str:
    """Temporal's id of the schedule. A name has no slash, so no other key and name make the same."""
    return f"{SCHEDULE_PREFIX}{key}/{name}"


def key_and_name(schedule: str) -> tuple[str, str] | None:
    """The session and name of a schedule id, or None for one that is not ours."""
    key, slash, name = schedule.removeprefix(SCHEDULE_PREFIX).rpartition("/")
    ours = schedule.startswith(SCHEDULE_PREFIX) and slash and key and NAME.match(name)
    return (key, name) if ours else None


def checked_target(text: str) -> str:
    """Errors: BadSchedule."""
    if text not in (LAST, NONE) and not ADDRESS.match(text):
        raise BadSchedule(f"{text[:80]!r} is no target: use last, none, or a channel and a place, like file:notes")
    return text


def checked_text(text: str) -> str:
    """Errors: BadSchedule."""
    size = len(text.encode("utf-8", "replace"))
    if not text.strip():
        raise BadSchedule("the schedule has no words: say what the session is to be told")
    if size > TEXT_BYTES:
        raise BadSchedule(f"the words are {size} bytes long: the limit is {TEXT_BYTES}")
    return text.encode("utf-8", "replace").decode()


def checked_for_isolation(key: str) -> str:
    """The key, where a run of its own can be named after it. Errors: BadSchedule."""
    if len(key.encode()) + RUN_CHARS > KEY_BYTES:
        raise BadSchedule(f"session key {key[:20]!r}… is too long to run its schedules isolated: leave that out")
    return key


def principal_of(key: str) -> str:
    """Who speaks when a schedule does: nobody with any grant (I10)."""
    return f"schedule:{key}"


def message_of(definition: Definition, due: str) -> str:
    """The id of an occurrence's message; `due` is its time. A one-shot speaks once, whenever it is run."""
    time = "once" if definition.when.at_s else due
    return f"{definition.name}@{time}/{definition.mac[:8]}"


def run_key(definition: Definition, due: str) -> str:
    """The session of an isolated occurrence."""
    return f"{definition.session}/run/{definition.name}/{due}"


def signed(key: bytes, definition: Definition) -> Definition:
    return replace(definition, mac=_mac(key, to_wire(replace(definition, mac=""))))


def definition_from(key: bytes, raw: Wire) -> Definition | None:
    """A definition as it was written; None for one that this key did not sign."""
    given = {name: value for name, value in raw.items() if name != "mac"}
    mac = str(raw.get("mac", ""))
    return from_wire(Definition, raw) if hmac.compare_digest(mac.encode(), _mac(key, given).encode()) else None


def _mac(key: bytes, wire: Wire) -> str:
    return sign_stored(key, "schedule", wire)

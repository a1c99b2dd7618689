"""Settings of channels, of heartbeats and of schedules."""

import re

from pydantic import Field, SecretStr, field_validator

from agent_session.settings_part import Names, Part


class SlackSettings(Part):
    """`up` runs the channel when the tokens that it needs are set."""

    bot_token: SecretStr = SecretStr("")  #: xoxb-…
    app_token: SecretStr = SecretStr("")  #: xapp-…, for Socket Mode
    signing_secret: SecretStr = SecretStr("")  #: for events that Slack posts to the gateway
    api_url: str = Field(default="https://slack.com/api/", pattern=r"^https?://\S+$")  #: base of the Web API
    owners: Names = ()  #: user ids that may also approve; their direct messages belong to the session `main`
    allowed_users: Names = ()  #: user ids that are answered, beside owners and people who were paired
    allowed_channels: Names = ()  #: channel ids in which mentions are answered
    direct_threads: bool = True  #: a direct message is answered in its thread, where Slack streams and has its Stop
    routes: dict[str, str] = Field(default={})  #: place (`dm:U1`, `channel:C1`, `thread`) -> session key

    @field_validator("owners", "allowed_users")
    @classmethod
    def _are_users(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return _are_ids(given, "UW", "user (in Slack: the profile, ⋮, Copy member ID)")

    @field_validator("allowed_channels")
    @classmethod
    def _are_channels(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        return _are_ids(given, "CG", "channel (in Slack: its name, at the bottom of About)")


def _are_ids(given: tuple[str, ...], begin: str, what: str) -> tuple[str, ...]:
    """A name would never match, and nobody would be told."""
    for one in given:
        if not re.fullmatch(rf"[{begin}][A-Z0-9]+", one):
            raise ValueError(f"{one!r} is no id of a {what}: it begins with {' or '.join(begin)}")
    return given


class HeartbeatSettings(Part):
    daily_tokens: int = Field(default=200_000, ge=0)  #: of one session's beats in one UTC day; 0: no limit
    swallow_ok: bool = True  #: HEARTBEAT_OK is not posted


class ScheduleSettings(Part):
    per_session: int = Field(default=50, ge=0, le=1_000)  #: how many one session may have
    time_zone: str = ""  #: of times that name none; empty: the machine's
    catch_up_minutes: int = Field(default=60, ge=1, le=525_600)  #: how late a time that Temporal missed is made good

    @field_validator("time_zone")
    @classmethod
    def _known(cls, given: str) -> str:
        from zoneinfo import available_timezones  # only where one is named

        if given and given not in available_timezones():
            raise ValueError("no time zone has this name: use one like Europe/Rome or UTC")
        return given

"""Settings of channels, of heartbeats and of schedules."""

from pydantic import Field, SecretStr

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
    routes: dict[str, str] = Field(default={})  #: place (`dm:U1`, `channel:C1`, `thread`) -> session key


class HeartbeatSettings(Part):
    daily_tokens: int = Field(default=200_000, ge=0)  #: of one session's beats in one UTC day; 0: no limit
    swallow_ok: bool = True  #: HEARTBEAT_OK is not posted


class ScheduleSettings(Part):
    per_session: int = Field(default=50, ge=0, le=1_000)  #: how many one session may have

"""Slack: direct messages, mentions in channels, threads; replies with Slack's own streaming, decisions with
buttons. See docs/channels/slack.md.

Light to import: Slack's libraries (extra `slack`) are loaded when the channel runs, delivers or is tried.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_session.settings import Settings
    from channels.slack.channel import SlackChannel


def configured(settings: "Settings") -> str:
    """Empty, or what is missing and where to get it."""
    given = settings.slack
    if not given.bot_token.get_secret_value():
        return "set slack.bot_token; docs/channels/slack.md says how to make the app"
    if not given.app_token.get_secret_value() and not given.signing_secret.get_secret_value():
        return "set slack.app_token (Socket Mode); docs/channels/slack.md"
    if find_spec("slack_sdk") is None:
        return "install Slack's libraries: pip install 'agent-session[slack]'"
    return ""


def create(settings: "Settings") -> "SlackChannel":
    from channels.slack.channel import SlackChannel

    return SlackChannel(settings)

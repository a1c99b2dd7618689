"""Slack's Web API, as this channel calls it: with the bot token to the configured server and nowhere else.

Nothing is tried again in here. A call whose connection broke may have had its effect, and Slack's own
client would post twice; whoever calls knows what is safe.
"""

import logging
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from agent_session.settings_channels import SlackSettings

TIMEOUT_S = 30
#: answers that no waiting mends: somebody has to do something
REFUSALS = frozenset(
    ("invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive", "not_allowed_token_type",
     "missing_scope", "no_permission", "org_login_required", "ekm_access_denied", "team_access_not_granted")
)  # fmt: skip

#: answers that may be others a moment later
PASSING = frozenset(
    ("ratelimited", "internal_error", "fatal_error", "service_unavailable", "request_timeout", "unknown")
)
#: of docs/channels/slack-manifest.yaml: what the bot token has to be good for
SCOPES = (
    "app_mentions:read", "assistant:write", "channels:history", "chat:write", "commands", "files:read", "files:write",
    "groups:history", "im:history", "im:write", "mpim:history", "mpim:read", "users:read",
)  # fmt: skip
SCOPES_HEADER = "x-oauth-scopes"

#: Slack's libraries log what people say, and tickets of connections; what matters is in our own log
quiet = logging.getLogger("agent_session.slack.sdk")
quiet.setLevel(logging.CRITICAL)


class TokenRefused(Exception):
    """Slack does not take a token; the message says which, why, and what to do."""


@dataclass(frozen=True)
class Me:
    """Who the app is in its workspace."""

    team: str
    user: str
    bot: str
    lacks: tuple[str, ...] = ()  #: scopes that the app was not installed with

    @property
    def lacking(self) -> str:
        """Empty, or which scopes are missing and what to do."""
        if not self.lacks:
            return ""
        return (
            f"the app was installed without {', '.join(self.lacks)}: give it the scopes of "
            "docs/channels/slack-manifest.yaml at https://api.slack.com/apps (App Manifest), then Reinstall the app"
        )


def web_client(settings: SlackSettings, session: aiohttp.ClientSession | None = None) -> AsyncWebClient:
    client = AsyncWebClient(
        token=settings.bot_token.get_secret_value(),
        base_url=settings.api_url,
        timeout=TIMEOUT_S,
        session=session,
        logger=quiet,
        retry_handlers=[],
    )
    if _is_near(settings.api_url):
        client.proxy = None  # the SDK takes a proxy from the environment, whatever no_proxy says
    return client


def _is_near(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or bool(proxy_bypass(host))


def error_of(error: SlackApiError) -> str:
    """Slack's own word for what is wrong."""
    answer: Any = error.response
    try:
        return str(answer.get("error") or "unknown")
    except (AttributeError, ValueError, TypeError):
        return "unknown"


async def who_am_i(web: AsyncWebClient) -> Me:
    """Errors: TokenRefused; whatever breaks on the way."""
    try:
        found: Any = await web.auth_test()
    except SlackApiError as error:
        raise refusal("bot_token", error) from None
    return Me(str(found["team_id"]), str(found["user_id"]), str(found.get("bot_id") or ""), _lacks(found.headers))


def _lacks(headers: Any) -> tuple[str, ...]:
    """What is missing of SCOPES; nothing, where a server does not say what it has granted."""
    given = {str(name).lower(): str(value) for name, value in dict(headers).items()}.get(SCOPES_HEADER, "")
    granted = {scope.strip() for scope in given.split(",")}
    return tuple(scope for scope in SCOPES if scope not in granted) if given else ()


def refusal(token: str, error: SlackApiError) -> Exception:
    """What to raise for an answer of Slack's: TokenRefused when somebody has to act."""
    word = error_of(error)
    if word not in REFUSALS:
        return error
    advice = {
        "missing_scope": "add the scopes of docs/channels/slack-manifest.yaml and install the app again",
        "not_allowed_token_type": "bot_token begins with xoxb-, app_token with xapp-",
    }.get(word, "make a new token in the app's settings at https://api.slack.com/apps, and set it")
    return TokenRefused(f"Slack refuses slack.{token} ({word}): {advice}")


def words_of(error: Exception) -> str:
    """What went wrong, for the log: with what to do where Slack refuses us, and without Slack's whole answer."""
    if isinstance(error, SlackApiError):
        refused = refusal("bot_token", error)
        return str(refused) if isinstance(refused, TokenRefused) else f"Slack answered {error_of(error)}"
    return f"{type(error).__name__}: {str(error)[:300]}"

"""The self-test: does Slack take both tokens, does a socket open, can we post, read back and delete?

The message goes to the first owner's direct messages, or else to the first allowed channel, and is taken away at
once. The socket is open for a moment only; Slack delivers again what it may hand it meanwhile.
"""

import asyncio
from typing import Any

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from agent_session.settings_channels import SlackSettings
from channels.slack.sockets import open_socket_url
from channels.slack.web import TokenRefused, error_of, who_am_i

PROBE_S = 20.0
WORDS = "A self-test of mine; this goes away at once."


async def probe(web: AsyncWebClient, settings: SlackSettings) -> str:
    """Empty, or what is wrong and what to do."""
    try:
        async with asyncio.timeout(PROBE_S):
            await who_am_i(web)
            if app_token := settings.app_token.get_secret_value():
                await _open_a_socket(web, app_token)
            return await _post_and_delete(web, settings)
    except TokenRefused as error:
        return str(error)
    except SlackApiError as error:
        return f"Slack refused {_method(error)}: {error_of(error)}"
    except TimeoutError:
        return f"Slack did not answer within {PROBE_S:.0f} s: is {settings.api_url} reachable from here?"
    except (OSError, aiohttp.ClientError) as error:
        return f"{settings.api_url} cannot be reached ({type(error).__name__}): check slack.api_url and the network"


def _method(error: SlackApiError) -> str:
    answer: Any = error.response
    return str(getattr(answer, "api_url", "a call")).rpartition("/")[2]


async def _open_a_socket(web: AsyncWebClient, app_token: str) -> None:
    url = await open_socket_url(web, app_token)
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url, proxy=web.proxy) as socket:
            hello: Any = await socket.receive_json()
            if hello.get("type") != "hello":
                raise aiohttp.ClientError("no hello")


async def _post_and_delete(web: AsyncWebClient, settings: SlackSettings) -> str:
    if settings.owners:
        answer: Any = await web.conversations_open(users=settings.owners[0])
        channel = str(answer["channel"]["id"])
    elif settings.allowed_channels:
        channel = settings.allowed_channels[0]
    else:
        return "there is nowhere to post a test: set slack.owners, or slack.allowed_channels"
    posted: Any = await web.chat_postMessage(channel=channel, text=WORDS)
    ts = str(posted["ts"])
    try:
        found: Any = await web.conversations_history(channel=channel, oldest=ts, inclusive=True, limit=1)
        seen = any(one.get("ts") == ts for one in found["messages"])
    finally:
        await web.chat_delete(channel=channel, ts=ts)
    return "" if seen else f"a message was posted to {channel}, but does not stand there"

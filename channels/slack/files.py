"""Files that people share, fetched with the bot token: from Slack's own servers (or the configured one), and from
nowhere else, whatever address a message names.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from slack_sdk.web.async_client import AsyncWebClient

from agent_session.domain.limits import SPOOL_BYTES
from agent_session.settings_channels import SlackSettings

TIMEOUT_S = 120
PIECE_BYTES = 256 * 1024
SLACK = "slack.com"


class NoFile(Exception):
    """A file that cannot be had; the message says why, for the person who sent it."""


@dataclass(frozen=True)
class SharedFile:
    """One that was read."""

    name: str
    kind: str  #: media type
    data: bytes


class Files:
    """Downloads with one token."""

    def __init__(self, web: AsyncWebClient, settings: SlackSettings) -> None:
        self._web, self._settings = web, settings

    async def fetch(self, shared: dict[str, Any]) -> SharedFile:
        """A file as a message shows it. Limit: 64 MiB. Errors: NoFile, which stays so; those of the Web API and of
        the connection, which may pass."""
        if shared.get("file_access") == "check_file_info":
            answer: Any = await self._web.files_info(file=str(shared.get("id", "")))
            shared = answer["file"]
        if shared.get("mode") in ("external", "tombstone", "hidden_by_limit"):
            raise NoFile("it is not kept by Slack")
        if int(shared.get("size") or 0) > SPOOL_BYTES:
            raise NoFile(f"it is larger than {SPOOL_BYTES // 2**20} MiB")
        url = str(shared.get("url_private_download") or shared.get("url_private") or "")
        if not may_have_token(url, self._settings.api_url):
            raise NoFile("its address is not one of Slack's")
        name = str(shared.get("name") or shared.get("id") or "file")
        return SharedFile(name, str(shared.get("mimetype") or ""), await self._read(url))

    async def _read(self, url: str) -> bytes:
        headers = {"Authorization": f"Bearer {self._settings.bot_token.get_secret_value()}"}
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            # a redirect would lead elsewhere; Slack sends those without a good token to its sign-in page
            async with session.get(url, headers=headers, allow_redirects=False, proxy=self._web.proxy) as answer:
                if answer.status >= 500 or answer.status == 429:
                    answer.raise_for_status()
                if answer.status != 200:
                    raise NoFile("Slack does not hand it over; does the app have the scope files:read?")
                data = bytearray()
                async for piece in answer.content.iter_chunked(PIECE_BYTES):
                    data += piece
                    if len(data) > SPOOL_BYTES:
                        raise NoFile(f"it is larger than {SPOOL_BYTES // 2**20} MiB")
                return bytes(data)


def may_have_token(url: str, api_url: str) -> bool:
    """Whether an address is of the server that the token is for: Slack's own over https, or the one that was set."""
    try:
        given, ours = urlsplit(url), urlsplit(api_url)
        if given.username is not None or given.password is not None:
            return False
        same = (given.scheme, given.hostname, given.port) == (ours.scheme, ours.hostname, ours.port)
        return same or (
            _is_slack(ours.hostname) and _is_slack(given.hostname) and _is_plain_https(given.scheme, given.port)
        )
    except ValueError:
        return False


def _is_slack(host: str | None) -> bool:
    return host is not None and (host == SLACK or host.endswith(f".{SLACK}"))


def _is_plain_https(scheme: str, port: int | None) -> bool:
    return scheme == "https" and port in (None, 443)

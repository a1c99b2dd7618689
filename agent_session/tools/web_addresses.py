"""Which address a URL may be fetched from: global unicast ones only, or what the operator allows.

A name is resolved once and every answer is checked; whoever connects uses these very addresses, so that
a name that answers differently the second time gains nothing. It must not connect to anything itself.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from agent_session.tools.base import ToolError

if TYPE_CHECKING:
    from httpx2 import URL

Resolve = Callable[[str, int], Awaitable[list[str]]]

#: of its own: a name server that does not answer must not hold up the work of other threads
RESOLVERS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="resolve")

PORTS = {"http": 80, "https": 443}
URL_CHARS = 2_048
NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
GLOBAL_V6 = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")
#: Within global space by number, or called global by `ipaddress`, and yet no place of its own.
REFUSED_V4 = (IPv4Network("192.88.99.0/24"), IPv4Network("192.0.0.0/24"), IPv4Network("168.63.129.16/32"))
REFUSED_V6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))


@dataclass(frozen=True)
class Target:
    """A URL and the addresses that were checked for it, in the order to try."""

    url: "URL"
    host: str
    addresses: tuple[str, ...]


async def system_resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.run_in_executor(RESOLVERS, partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def check(text: str, private_hosts: Collection[str], resolve: Resolve) -> Target:
    """Errors: ToolError that says what is refused."""
    url = parse(text)
    host = url.raw_host.decode("ascii").lower()
    port = url.port or PORTS[url.scheme]
    shown = f"[{host}]" if ":" in host else host
    private = f"{shown}:{port}" in {one.lower() for one in private_hosts}
    if not private:
        refuse_odd_name(host)
    literal = address_of(host)
    try:
        answers = [host] if literal else await resolve(host, port)
    except (OSError, UnicodeError) as error:
        raise ToolError(f"the host {host} cannot be found: {getattr(error, 'strerror', None) or error}") from None
    if not answers:
        raise ToolError(f"the host {host} has no address")
    if not private:
        for answer in answers:
            if why := why_not(answer):
                raise ToolError(
                    f"{shown} is at {answer}, {why}: only public addresses are fetched, and what the operator "
                    f"allows in tools.web.private_hosts (here {shown}:{port})"
                )
    return Target(url, host, tuple(answers))


def parse(text: str) -> "URL":
    """Errors: ToolError."""
    from httpx2 import URL, InvalidURL

    if len(text) > URL_CHARS:
        raise ToolError(f"the URL is longer than {URL_CHARS} characters")
    if any(letter <= " " or letter in "\\\x7f" for letter in text):
        raise ToolError("the URL holds a space, a backslash or a control character: encode it as %20 and the like")
    try:
        url = URL(text)
        port = url.port
    except (InvalidURL, ValueError, UnicodeError) as error:
        raise ToolError(f"this is not a URL that can be fetched: {error}") from None
    if url.scheme not in PORTS:
        raise ToolError(f"{url.scheme or 'no scheme'}: only http:// and https:// are fetched")
    if "@" in text.split("://", 1)[-1].split("/", 1)[0].split("?", 1)[0].split("#", 1)[0]:
        raise ToolError("the URL holds a user name or a password: these are never sent")
    if not url.raw_host or not (port is None or 0 < port < 65_536):
        raise ToolError("the URL names no host, or a port that is none")
    return url.copy_with(fragment=None)


def refuse_odd_name(host: str) -> None:
    """Errors: ToolError for local names and for numbers in a form that resolvers take for an address."""
    if address_of(host):
        return
    if not NAME.fullmatch(host):
        raise ToolError(f"{host!r} is no host name")
    last = host.rstrip(".").rpartition(".")[2]
    if NUMBER.fullmatch(last):
        raise ToolError(f"{host} is a number that stands for an address: write it as four decimal numbers")
    if last == "localhost":
        raise ToolError("localhost is this machine: only public addresses are fetched")


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def why_not(answer: str) -> str:
    """Why nothing may be fetched from this address; empty when it may."""
    address = address_of(answer)
    if address is None or (isinstance(address, IPv6Address) and address.scope_id):
        return "which is no plain address"
    if isinstance(address, IPv6Address) and address in NAT64:
        address = IPv4Address(int(address) & 0xFFFFFFFF)  # an IPv4 address, reached through a gateway
    if isinstance(address, IPv4Address):
        fine = address.is_global and not address.is_multicast and not address.is_reserved
        refused = not fine or any(address in network for network in REFUSED_V4)
    else:
        refused = address not in GLOBAL_V6 or any(address in network for network in REFUSED_V6)
    return "which is not a public address" if refused else ""

"""One HTTP GET to checked addresses: no proxy, no cookie, no redirect, no more bytes than allowed.

The connection goes to an address of the `Target`; the Host header, the TLS server name and the check of
the certificate keep the name. It must not read environment variables, nor look a name up again.
"""

import re
import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from agent_session.tools.base import ToolError
from agent_session.tools.web_addresses import PORTS, Resolve, Target, system_resolve

if TYPE_CHECKING:
    import ssl

    from httpx2 import Response

CONNECT_S = 5.0  #: to one address; the next is tried then
MEDIA_TYPE = re.compile(r"[\w.+-]{1,64}/[\w.+-]{1,64}", re.ASCII)
ENCODINGS = {"gzip": 47, "x-gzip": 47, "deflate": 47}  #: 47: zlib finds out which of the two it is


@cache
def system_tls() -> "ssl.SSLContext":
    from httpx2 import create_ssl_context

    return create_ssl_context(trust_env=False)


@dataclass(frozen=True)
class Network:
    """How names and certificates are checked."""

    resolve: Resolve = system_resolve
    tls: "Callable[[], ssl.SSLContext]" = system_tls


@dataclass(frozen=True)
class Body:
    data: bytes
    cut: bool  #: there was more


@asynccontextmanager
async def get(target: Target, network: Network, timeout_s: float) -> "AsyncGenerator[Response]":
    """The response, its body unread. Errors: ToolError."""
    import httpx2

    tls = network.tls() if target.url.scheme == "https" else False
    timeout = httpx2.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
    transport = httpx2.AsyncHTTPTransport(verify=tls, trust_env=False)
    async with httpx2.AsyncClient(transport=transport, trust_env=False, timeout=timeout) as client:
        try:
            response = await _first_answer(client, target)
            try:
                yield response
            finally:
                await response.aclose()
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            # its words may be the server's own: they would stand outside the marks
            what = "its certificate is not valid for it" if "CERTIFICATE" in str(error) else type(error).__name__
            raise ToolError(f"fetching from {target.host} failed: {what}") from None


async def _first_answer(client: object, target: Target) -> "Response":
    import httpx2

    assert isinstance(client, httpx2.AsyncClient)
    failed: Exception | None = None
    for address in target.addresses:
        request = client.build_request(
            "GET",
            target.url.copy_with(host=address),
            headers={
                "Host": _host_header(target),
                "User-Agent": f"agent-session/{version('agent-session')}",
                "Accept": "text/html, text/*;q=0.9, application/json;q=0.9, */*;q=0.1",
                "Accept-Encoding": "gzip, deflate",
                "Connection": "close",
            },
            extensions={"sni_hostname": target.host},
        )
        try:
            return await client.send(request, stream=True, follow_redirects=False)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            failed = error
    assert failed is not None
    raise failed


def _host_header(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    port = target.url.port
    return host if port in (None, PORTS[target.url.scheme]) else f"{host}:{port}"


def media_type(response: "Response") -> tuple[str, str]:
    """The type in small letters, or nothing, and the charset that the header names, or nothing."""
    header = response.headers.get("content-type", "")
    kind, _, parameters = header.partition(";")
    found = re.search(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", parameters[:500], re.IGNORECASE | re.ASCII)
    kind = kind.strip().lower()
    return kind if MEDIA_TYPE.fullmatch(kind) else "", found[1] if found else ""


CHUNK_COST_BYTES = 64  #: at least, of each piece: a server that sends single bytes costs time, not bytes


async def read_body(response: "Response", max_bytes: int) -> Body:
    """At most `max_bytes`, both of what comes over the wire and of what that unpacks to. Errors: ToolError."""
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity", *ENCODINGS):
        raise ToolError("the body comes packed in a way that was not asked for, and is not unpacked")
    unpack = zlib.decompressobj(ENCODINGS[coding]) if coding in ENCODINGS else None
    data, wire, seen = bytearray(), 0, False
    async for chunk in response.aiter_raw():
        wire += max(len(chunk), CHUNK_COST_BYTES)
        if unpack is not None:
            try:
                if (
                    not data
                    and unpack.unused_data == b""
                    and not seen
                    and coding == "deflate"
                    and not _has_zlib_header(chunk)
                ):
                    unpack = zlib.decompressobj(-zlib.MAX_WBITS)  # as some servers understand "deflate"
                chunk = unpack.decompress(chunk, max_bytes + 1 - len(data))
                seen = True
            except zlib.error as error:
                raise ToolError(f"the packed body is damaged: {error}") from None
        data += chunk
        if unpack is not None and unpack.eof:
            break  # what follows is no part of it
        if len(data) > max_bytes or wire > max_bytes:
            return Body(bytes(data[:max_bytes]), True)
    return Body(bytes(data), False)


def _has_zlib_header(chunk: bytes) -> bool:
    return len(chunk) >= 2 and chunk[0] & 15 == 8 and (chunk[0] * 256 + chunk[1]) % 31 == 0

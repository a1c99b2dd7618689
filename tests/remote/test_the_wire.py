"""What goes over the wire, and to whom: TLS, redirects, retries, what an answer means."""

import asyncio
import hashlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from yarl import URL

from agent_session.client_types import NoSuchMessage, NoSuchSession, ReplyPending, SessionBusy, SessionError
from agent_session.gateway.app import application
from agent_session.remote.client import RemoteSessions
from agent_session.remote.errors import GatewayUnreachable, NotAGateway, NotAllowed, NotLetIn, NotTrusted
from agent_session.remote.target import Target
from agent_session.settings import Settings, load_settings
from agent_session.transcript.lines import Line
from tests.gateway.support import TOKENS, Door, door
from tests.remote.support import token_file
from tests.support import Service, fresh_key, until_true

TOKEN = "the-right-token-0123456789"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a machine without a service."""
    return load_settings({"data_dir": tmp_path / "nothing-here"})


@pytest.fixture
async def gateway(service: Service) -> AsyncIterator[Door]:
    async with door(service) as opened:
        yield opened


def remote(settings: Settings, url: str, token: str = TOKEN, fingerprint: bytes = b"") -> RemoteSessions:
    return RemoteSessions(settings, Target(url=url, token=token, source="the test", fingerprint=fingerprint))


@asynccontextmanager
async def serving(app: web.Application, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server of this process; yields where."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def answering(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with serving(app) as url:
        yield url


def certificate(folder: Path) -> tuple[ssl.SSLContext, bytes]:
    """A self-signed one, and the sha256 by which it is known."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-keyout", key, "-out", cert, "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, hashlib.sha256(ssl.PEM_cert_to_DER_cert(cert.read_text())).digest()


async def test_a_pinned_certificate_passes_and_no_other(gateway: Door, settings: Settings, tmp_path: Path) -> None:
    context, pin = certificate(tmp_path)
    async with serving(application(gateway.gateway), context) as url:
        async with remote(settings, url, gateway.token, pin) as client:
            assert (await client.ask(fresh_key(), "remember blue", timeout_s=30)).text == "I will remember: blue"
        async with remote(settings, url, gateway.token, bytes(32)) as client:
            with pytest.raises(NotTrusted, match=pin.hex()) as refused:
                await client.check()
        async with remote(settings, url, gateway.token) as client:
            with pytest.raises(NotTrusted, match="tls_fingerprint"):
                await client.check()
    assert gateway.token not in str(refused.value)


async def test_a_server_with_a_wrong_certificate_sees_no_token(settings: Settings, tmp_path: Path) -> None:
    """The pin is checked before anything is sent."""
    context, _ = certificate(tmp_path)
    asked: list[str] = []

    async def note(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.json_response({})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", note)
    async with serving(app, context) as url:
        for pin in (bytes(32), b""):
            async with remote(settings, url, fingerprint=pin) as client:
                with pytest.raises(NotTrusted):
                    await client.send("main", "hello", timeout_s=30)
    assert asked == []


async def test_no_tls_where_it_is_asked_for_is_said_at_once(gateway: Door, settings: Settings) -> None:
    async with remote(settings, gateway.url.replace("http:", "https:"), gateway.token) as client:
        with pytest.raises(NotTrusted, match="TLS"):
            await client.send("main", "hello", timeout_s=30)


async def test_a_redirect_is_not_followed(settings: Settings) -> None:
    elsewhere: list[str] = []

    async def other(request: web.Request) -> web.StreamResponse:
        elsewhere.append(request.headers.get("Authorization", ""))
        return web.json_response({"sessions": [], "next": None})

    async with answering(other) as there:

        async def redirect(request: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"{there}{request.path}")

        async with answering(redirect) as url, remote(settings, url) as client:
            with pytest.raises(NotAGateway, match="redirect"):
                await client.sessions()
            with pytest.raises(NotAGateway, match="redirect"):
                await anext(client.events("main"))
    assert elsewhere == []


async def test_a_wrong_token_is_said_by_where_it_came_from(gateway: Door, settings: Settings) -> None:
    async with remote(settings, gateway.url) as client:
        for work in (client.check(), client.send("main", "hello"), anext(client.follow("main"))):
            with pytest.raises(NotLetIn, match="the token of the test") as refused:
                await work
            assert TOKEN not in str(refused.value)


async def test_what_a_token_does_not_open_is_refused_in_words(
    service: Service, settings: Settings, tmp_path: Path
) -> None:
    async with door(service, token_file=token_file(tmp_path / "tokens", TOKENS)) as opened:
        async with remote(settings, opened.url, "phone-token-0123456789") as client:
            with pytest.raises(NotAllowed, match="does not reach"):
                await client.send("secret", "hello")
            with pytest.raises(NotAllowed, match="scope 'approve'"):
                await client.resolve("team", "t-0-0-0", "0" * 16, "allow")
            key = f"team/{fresh_key()}"
            assert (await client.ask(key, "remember blue", timeout_s=30)).ok

            async def found() -> set[str]:
                keys = {row.key for row in await client.sessions()}
                return keys if key in keys else set()

            listed = await until_true(found)
            assert all(one.split("/")[0] in ("main", "team") or one.startswith("api/phone/") for one in listed)


async def test_somebody_else_at_that_address_is_no_gateway(settings: Settings) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>", content_type="text/html")

    async with answering(page) as url, remote(settings, url) as client:
        with pytest.raises(NotAGateway, match="check the URL"):
            await client.status("main")


async def test_nobody_there_is_said_soon(settings: Settings, unused_tcp_port: int) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with remote(settings, url) as client:
        with pytest.raises(GatewayUnreachable, match=f"{url} cannot be reached"):
            await client.status("main")
        async with asyncio.timeout(10):  # not the minute that a message is tried for otherwise
            with pytest.raises(GatewayUnreachable):
                await client.send("main", "hello", timeout_s=60)


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Stumbling:
    """In front of a gateway: breaks what it is told to, hands on the rest."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self.breaks: list[str] = []  #: before, after, 503, 429: one a request
        self.ids: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            self.ids.append(request.headers.get("Idempotency-Key", ""))
        how = self.breaks.pop(0) if self.breaks else ""
        if how == "before":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if how in ("503", "429"):
            code = {"503": "temporal_unavailable", "429": "session_busy"}[how]
            body = {"error": {"code": code, "message": "not now"}}
            return web.json_response(body, status=int(how), headers={"Retry-After": "1"})
        kept = {name: value for name, value in request.headers.items() if name not in ("Host", "Content-Length")}
        url = f"{self._door.url}{request.raw_path}"
        async with self._door.http.request(
            request.method, URL(url, encoded=True), headers=kept, data=await request.read()
        ) as answer:
            raw = await answer.read()
        if how == "after":
            assert request.transport is not None
            request.transport.abort()
        return web.Response(body=raw, status=answer.status, content_type=answer.content_type)


@pytest.mark.parametrize("how", ["before", "after", "503", "429"])
async def test_a_send_is_tried_again_with_the_same_id_and_said_once(
    gateway: Door, settings: Settings, service: Service, how: str
) -> None:
    stumbling, key = Stumbling(gateway), fresh_key()
    async with answering(stumbling.handle) as url, remote(settings, url, gateway.token) as client:
        await client.check()
        stumbling.breaks = [how, how, "", how]
        reply = await client.ask(key, "remember blue", timeout_s=30)
    assert reply.text == "I will remember: blue"
    assert len(set(stumbling.ids)) == 1
    assert len(stumbling.ids) == 3, "waiting says nothing again"
    assert service.said(key) == ["remember blue"]


async def test_a_session_that_stays_busy_is_given_up_in_the_end(settings: Settings) -> None:
    async def busy(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"code": "session_busy", "message": "takes no more"}}, status=429)

    async with answering(busy) as url, remote(settings, url) as client:
        with pytest.raises(SessionBusy, match="takes no more"):
            await client.send("main", "hello", timeout_s=0.5)


async def test_a_full_queue_is_not_tried_again(settings: Settings) -> None:
    """It may be full for hours; where the service runs, it is said at once, too."""
    asked: list[str] = []

    async def full(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        return web.json_response({"error": {"code": "queue_full", "message": "too many wait"}}, status=429)

    async with answering(full) as url, remote(settings, url) as client:
        with pytest.raises(SessionBusy, match="too many wait"):
            await client.send("main", "hello", timeout_s=60)
    assert len(asked) == 1


async def test_an_id_that_was_used_for_other_words_is_refused(gateway: Door, settings: Settings) -> None:
    key = fresh_key()
    async with remote(settings, gateway.url, gateway.token) as client:
        await client.ask(key, "remember one", id="same", timeout_s=30)
        with pytest.raises(ValueError, match="Idempotency-Key"):
            await client.send(key, "remember two", id="same")


async def test_waiting_ends_in_time_and_for_what_was_never_sent_at_once(gateway: Door, settings: Settings) -> None:
    key = fresh_key()
    async with remote(settings, gateway.url, gateway.token) as client:
        receipt = await client.send(key, "run sleep 30")
        with pytest.raises(ReplyPending, match="ask again"):
            await client.await_reply(key, receipt.id, timeout_s=0.3)
        await client.cancel(key)
        assert (await client.await_reply(key, receipt.id, timeout_s=30)).outcome == "cancelled"
        with pytest.raises(NoSuchMessage, match="never seen"):
            await client.await_reply(key, "never-sent")
        with pytest.raises(NoSuchSession):
            await client.status(fresh_key("none"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"text": "  "}, "empty"),
        ({"text": "x", "mode": "sideways"}, "sideways"),
        ({"text": "x", "reply_address": "file:out"}, "--reply-to"),
        ({"text": "x", "id": "a\x00b"}, "message id"),
    ],
)
async def test_what_cannot_be_sent_is_refused_before_anything_is_asked(
    settings: Settings, unused_tcp_port: int, given: dict[str, str], words: str
) -> None:
    async with remote(settings, f"http://127.0.0.1:{unused_tcp_port}") as client:
        with pytest.raises(ValueError, match=words):
            await client.send("main", **given)


async def test_files_arrive_whole_under_their_names(
    gateway: Door, settings: Settings, service: Service, tmp_path: Path
) -> None:
    key, path = fresh_key(), tmp_path / "a b+ü.txt"
    path.write_bytes(bytes(range(256)) * 1_000)
    async with remote(settings, gateway.url, gateway.token) as client:
        await client.ask(key, "remember it", attachments=[path], timeout_s=30)
    (attached,) = service.lines(key)[0]["attachments"]
    assert (attached["name"], attached["size"]) == (path.name, "256000")


async def test_lines_are_followed_from_the_first_on_and_none_is_missed(
    gateway: Door, settings: Settings, service: Service
) -> None:
    key = fresh_key()
    raws: list[bytes] = []
    async with remote(settings, gateway.url, gateway.token) as client:

        async def follow() -> None:
            async for raw, line in client.follow(key):
                raws.append(raw)
                if isinstance(line, dict) and line.get("event") == "ended" and line["n"] == 3:
                    return

        following = asyncio.create_task(follow())
        for number in range(3):
            await service.ask(key, f"remember {number} \u2028 é")
        await asyncio.wait_for(following, 20)
    assert b"".join(raws) == (service.volume.path_of(key) / "history.jsonl").read_bytes()


async def test_the_last_lines_come_first_and_pages_join(gateway: Door, settings: Settings, service: Service) -> None:
    key = fresh_key()
    for number in range(12):
        await service.ask(key, f"remember {number}")
    found: list[Line] = []
    async with remote(settings, gateway.url, gateway.token) as client:
        async for line in client.backwards(key):
            found.append(line)
        assert [line async for line in client.backwards(fresh_key("none"))] == []
    assert found[::-1] == service.lines(key)
    assert len(found) > 20  # more than the first page


async def test_an_error_of_the_gateway_names_the_request(settings: Settings) -> None:
    async def fail(request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = {"error": {"code": "internal", "message": "it failed", "request_id": "r-1"}}
        return web.Response(body=orjson.dumps(body), status=500)

    async with answering(fail) as url, remote(settings, url) as client:
        with pytest.raises(SessionError, match="r-1"):
            await client.status("main")

"""Codes and page tokens over HTTP, and how the page's files are served. Needs no browser."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_session.gateway.attempts import PER_MINUTE
from agent_session.gateway.page import FILES, FOLDER, TYPES
from agent_session.transcript.volume import KEY_FILE, MARKER
from tests.gateway.support import TOKENS as NAMED
from tests.gateway.support import Door, Said, door
from tests.support import Service, fresh_key

ALL_SCOPES = ["admin", "approve", "node", "read", "send"]


async def code_of(gateway: Door, **how: object) -> str:
    return str((await gateway.post("/v1/codes", **{"json": {}, **how})).json["code"])  # type: ignore[arg-type]


async def exchange(gateway: Door, code: str) -> Said:
    return await gateway.post("/v1/codes/exchange", token="", json={"code": code})


@pytest.fixture
async def gateway(service: Service) -> AsyncIterator[Door]:
    async with door(service) as opened:
        yield opened


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(NAMED)
    path.chmod(0o600)
    return path


async def test_a_code_is_exchanged_once_for_a_token_of_the_same_rights(gateway: Door) -> None:
    code = await code_of(gateway)
    first, second = await exchange(gateway, code), await exchange(gateway, code)
    assert (first.status, second.status, second.code) == (200, 401, "no_valid_code")
    assert (first.json["name"], first.json["scopes"], first.json["expires_in_s"]) == ("owner", ALL_SCOPES, 12 * 3600)
    assert (await gateway.get("/v1/sessions", token=first.json["token"])).status == 200
    assert first.json["token"] != gateway.token


async def test_a_page_has_the_scopes_and_prefixes_of_its_token_or_fewer(service: Service, tokens: Path) -> None:
    """I10"""
    async with door(service, token_file=tokens) as opened:
        opened.token = "phone-token-0123456789"
        whole = (await exchange(opened, await code_of(opened))).json
        less = (await exchange(opened, await code_of(opened, json={"scopes": ["read"]}))).json
        more = await opened.post("/v1/codes", json={"scopes": ["approve"]})
        odd = await opened.post("/v1/codes", json={"scopes": ["everything"]})
        assert (whole["scopes"], less["scopes"]) == (["read", "send"], ["read"])
        assert (more.status, more.code, odd.status) == (403, "scope_missing", 400)
        key = f"team/{fresh_key()}"
        assert (await opened.say(key, "hello", token=whole["token"])).status == 200
        assert (await opened.say(key, "hello", token=less["token"])).status == 403
        assert (await opened.say("elsewhere", "hello", token=whole["token"])).status == 403


async def test_a_page_makes_no_codes_and_so_does_not_outlast_its_hours(gateway: Door) -> None:
    page = (await exchange(gateway, await code_of(gateway))).json["token"]
    refused = await gateway.post("/v1/codes", token=page, json={})
    assert (refused.status, refused.code) == (403, "no_token_of_its_own")


async def test_a_page_ends_with_its_token_and_loses_what_it_loses(service: Service, tokens: Path) -> None:
    async with door(service, token_file=tokens) as opened:
        opened.token = "phone-token-0123456789"
        code = await code_of(opened)
        page = (await exchange(opened, await code_of(opened))).json["token"]
        tokens.write_text(NAMED.replace('prefixes = ["main", "team"]', 'scopes = ["read"]'))
        assert (await opened.say("api/phone/x", "hello", token=page)).status == 403
        assert (await opened.get("/v1/sessions", token=page)).status == 200
        tokens.write_text(NAMED.replace("phone-token-0123456789", "phone-token-new-456789"))
        assert (await opened.get("/v1/sessions", token=page)).status == 401
        assert (await exchange(opened, code)).status == 401


async def test_wrong_codes_are_failed_attempts(gateway: Door) -> None:
    answers = [(await exchange(gateway, f"wrong-{n}")).status for n in range(PER_MINUTE + 1)]
    assert answers == [401] * PER_MINUTE + [429]
    assert (await exchange(gateway, await code_of(gateway))).status == 200, "a right one is never held up"


async def test_codes_need_a_token(gateway: Door) -> None:
    assert (await gateway.post("/v1/codes", token="", json={})).status == 401


async def test_no_gateway_need_be_the_one_that_was_asked_before(service: Service) -> None:
    """Replicas on one volume, behind a load balancer that sends each request where it likes."""
    async with door(service) as one, door(service) as other:
        page = (await exchange(other, await code_of(one))).json["token"]
        key = fresh_key()
        for opened in (one, other, one, other):
            assert (await opened.get("/v1/sessions", token=page)).status == 200
            assert (await opened.say(key, "hello", token=page)).status == 200
        code = await code_of(other)
        answers = [await exchange(opened, code) for opened in (one, other, one)]
        assert [answer.status for answer in answers] == [200, 401, 401]


async def test_a_code_that_is_exchanged_at_two_gateways_at_once_signs_one_page_in(service: Service) -> None:
    async with door(service) as one, door(service) as other:
        for _ in range(10):
            code = await code_of(one)
            answers = await asyncio.gather(*(exchange(opened, code) for opened in (one, other)))
            assert sorted(answer.status for answer in answers) == [200, 401]


async def test_a_gateway_that_begins_anew_signs_nobody_out(service: Service) -> None:
    async with door(service) as before:
        code, used = await code_of(before), await code_of(before)
        page = (await exchange(before, used)).json["token"]
    async with door(service) as after:
        assert (await after.get("/v1/sessions", token=page)).status == 200
        assert (await exchange(after, code)).status == 200
        assert (await exchange(after, used)).status == 401


async def test_a_withdrawn_token_ends_its_pages_at_every_gateway(service: Service, tokens: Path) -> None:
    async with door(service, token_file=tokens) as one, door(service, token_file=tokens) as other:
        one.token = "phone-token-0123456789"
        page = (await exchange(other, await code_of(one))).json["token"]
        tokens.write_text(NAMED.replace("phone-token-0123456789", "phone-token-new-456789"))
        for opened in (one, other):
            refused = await opened.get("/v1/sessions", token=page)
            assert (refused.status, refused.code) == (401, "no_valid_token")


async def test_while_the_volume_is_away_codes_wait_and_pages_stay_signed_in(service: Service) -> None:
    root = service.volume.root
    async with door(service) as one, door(service) as other:
        code, page = await code_of(one), (await exchange(one, await code_of(one))).json["token"]
        os.rename(root / MARKER, root / "marker")
        os.rename(root / KEY_FILE, root / "key")
        try:
            for answer in (
                await exchange(one, code),
                await one.post("/v1/codes", json={}),
                await other.get("/v1/sessions", token=page),  # which has not read the key yet
            ):
                assert (answer.status, answer.code) == (503, "volume_unavailable")
                assert int(answer.headers["Retry-After"]) > 0
            assert (await one.get(f"/v1/sessions/{fresh_key()}", token=page)).status == 404, "let in"
        finally:
            os.rename(root / "key", root / KEY_FILE)
            os.rename(root / "marker", root / MARKER)
        assert (await other.get("/v1/sessions", token=page)).status == 200
        assert (await exchange(other, code)).status == 200
        assert (await exchange(one, code)).status == 401


async def test_neither_codes_nor_page_tokens_are_logged_or_stored(
    service: Service, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with door(service) as opened:
        code = await code_of(opened)
        page = (await exchange(opened, code)).json["token"]
        await exchange(opened, code)
        await opened.get("/v1/sessions", token=page)
        await opened.get("/v1/sessions", token=f"{page}x")
    said = caplog.text + "".join(capfd.readouterr())
    assert "a request without a valid token was refused" in said, "logs are seen here"
    stored = [path for path in service.volume.root.rglob("*") if path.is_file()]
    for secret in (code, page):
        for part in (secret, *secret.split(".")[1:]):
            assert part not in said
            assert not any(part.encode() in str(path).encode() + path.read_bytes() for path in stored)


async def test_the_page_and_its_files_allow_nothing_but_their_own(gateway: Door) -> None:
    for path in ("/", *(f"/page/{name}" for name in FILES)):
        found = await gateway.get(path, token="")
        policy = found.headers["Content-Security-Policy"]
        assert found.status == 200, path
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert found.headers["Cache-Control"] == "no-cache"
        assert "Set-Cookie" not in found.headers
        again = await gateway.get(path, token="", headers={"If-None-Match": found.headers["Etag"]})
        assert (again.status, again.raw) == (304, b"")
    assert (await gateway.get("/", token="")).headers["Content-Type"] == "text/html; charset=utf-8"
    assert (await gateway.get("/page/app.js", token="")).headers["Content-Type"] == "text/javascript; charset=utf-8"


@pytest.mark.parametrize(
    "name", ["README.md", "..%2Fpage.py", "%2Fetc%2Fpasswd", "nothing.js", "app.js%00", ".", "page"]
)
async def test_only_known_names_are_served(gateway: Door, name: str) -> None:
    assert (await gateway.get(f"/page/{name}", token="")).status == 404


def test_the_page_loads_nothing_from_elsewhere_and_makes_no_html_from_text() -> None:
    for path in FOLDER.iterdir():
        if path.suffix not in TYPES:
            continue
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "new Function", "DOMParser",
                     "@import", "localStorage", "style="):  # fmt: skip
            assert word not in text, f"{path.name}: {word}"
        assert "//" not in text.replace("// ", "").replace("https?:\\/\\/", "") or path.suffix == ".js", path.name
        assert len(text.splitlines()) <= 400, path.name


def test_every_script_of_the_page_is_named_where_it_is_loaded_and_described() -> None:
    index, readme = (FOLDER / "index.html").read_text(), (FOLDER / "README.md").read_text()
    for name in FILES:
        assert f"`{name}`" in readme
        assert f"/page/{name}" in index or name == "index.html"

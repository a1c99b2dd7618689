"""Who may come in: tokens, scopes, prefixes, rotation; Host and Origin; nothing of a token anywhere."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_session.gateway.access import SCOPES, Access, access_of, digest_of
from agent_session.gateway.attempts import PER_MINUTE
from agent_session.gateway.tokens import TOKEN_FILE, Tokens, make_token, refuse_open_without_token, tokens_of
from agent_session.settings import BadSettings, GatewaySettings
from tests.gateway.support import TOKENS, Door, door
from tests.support import Service, fresh_key


def token_file(path: Path, text: str = TOKENS) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


async def test_the_token_opens_and_nothing_else_does(gateway: Door) -> None:
    path = f"/v1/sessions/{fresh_key()}"
    assert (await gateway.get(path)).code == "no_such_session"
    for wrong in ("", "wrong-token-0123456789", gateway.token[:-1], gateway.token + "x"):
        refused = await gateway.get(path, token=wrong)
        assert (refused.status, refused.code, refused.headers["WWW-Authenticate"]) == (401, "no_valid_token", "Bearer")
    other_scheme = await gateway.get(path, token="", headers={"Authorization": f"Basic {gateway.token}"})
    assert other_scheme.status == 401


async def test_a_token_in_the_query_opens_nothing(gateway: Door) -> None:
    refused = await gateway.get(f"/v1/sessions/main?token={gateway.token}", token="")
    assert refused.status == 401


async def test_scopes_and_prefixes_hold(service: Service, tmp_path: Path) -> None:
    path = token_file(tmp_path / "tokens.toml")
    async with door(service, token_file=path) as opened:
        tried = {
            (name, key): (await opened.say(key, "hello", wait=0, token=f"{name}-token-0123456789")).status
            for name, key in [
                ("phone", "main"), ("phone", "team/x"), ("phone", "teamwork"), ("phone", "api/phone/mine"),
                ("phone", "api/guest/x"), ("reader", "team"), ("guest", "main"), ("guest", "api/guest/x"),
            ]
        }  # fmt: skip
        read = (await opened.get("/v1/sessions/team", token="reader-token-0123456789")).status
    assert tried == {
        ("phone", "main"): 202, ("phone", "team/x"): 202, ("phone", "teamwork"): 403, ("phone", "api/phone/mine"): 202,
        ("phone", "api/guest/x"): 403, ("reader", "team"): 403, ("guest", "main"): 403, ("guest", "api/guest/x"): 202,
    }  # fmt: skip
    assert read in (200, 404)


async def test_a_changed_file_counts_at_once_and_a_broken_one_changes_nothing(service: Service, tmp_path: Path) -> None:
    path = token_file(tmp_path / "tokens.toml", "first-token-0123456789\n")
    async with door(service, token_file=path) as opened:

        async def status(token: str) -> int:
            return (await opened.get("/v1/sessions/none", token=token)).status

        before = await status("first-token-0123456789")
        token_file(path, "[tokens.second]\ntoken = 'second-token-0123456789'\nprefixes = ['']\n")
        rotated = (await status("first-token-0123456789"), await status("second-token-0123456789"))
        token_file(path, "[tokens.second\n")
        broken = await status("second-token-0123456789")
        path.unlink()
        away = await status("second-token-0123456789")
    assert (before, rotated, broken, away) == (404, (401, 404), 404, 404)


async def test_a_file_that_was_made_private_counts_again(service: Service, tmp_path: Path) -> None:
    path = token_file(tmp_path / "tokens", "first-token-0123456789\n")
    async with door(service, token_file=path) as opened:
        path.unlink()
        path.write_text("second-token-0123456789\n")
        path.chmod(0o644)
        refused = (await opened.get("/v1/sessions/none", token="second-token-0123456789")).status
        path.chmod(0o600)
        read = (await opened.get("/v1/sessions/none", token="second-token-0123456789")).status
        revoked = (await opened.get("/v1/sessions/none", token="first-token-0123456789")).status
    assert (refused, read, revoked) == (401, 404, 401)


async def test_what_needs_no_token_takes_no_large_body(gateway: Door) -> None:
    large = await gateway.post("/v1/codes/exchange", token="", json={"code": "x" * 5_000})
    assert (large.status, large.code) == (413, "too_large")


async def test_ids_belong_to_a_token(service: Service, tmp_path: Path) -> None:
    path = token_file(tmp_path / "tokens.toml")
    async with door(service, token_file=path) as opened:
        key = "team/ids"
        mine = await opened.say(
            key, "remember mine", token="phone-token-0123456789", headers={"Idempotency-Key": "same"}
        )
        again = await opened.say(
            key, "remember mine", token="phone-token-0123456789", headers={"Idempotency-Key": "same"}
        )
    assert mine.json["text"] == again.json["text"] == "I will remember: mine"
    assert service.said(key) == ["remember mine"]
    assert service.lines(key)[0]["principal"] == "http:phone"


async def test_many_failures_are_slowed_down_and_the_right_token_is_not(gateway: Door) -> None:
    statuses = [(await gateway.get("/v1/sessions/x", token="wrong-token-0123456789")).status for _ in range(PER_MINUTE)]
    slowed = await gateway.get("/v1/sessions/x", token="wrong-token-0123456789")
    right = await gateway.get("/v1/sessions/x")
    assert set(statuses) == {401}
    assert (slowed.status, slowed.code) == (429, "too_many_failures")
    assert int(slowed.headers["Retry-After"]) > 0
    assert right.status == 404


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "wrong_host"),
        ({"Host": "localhost.evil.example"}, "wrong_host"),
        ({"Host": "127.0.0.1.evil.example:18790"}, "wrong_host"),
        ({"Host": "10.0.0.1"}, "wrong_host"),
        ({"Origin": "https://evil.example"}, "foreign_origin"),
        ({"Origin": "null"}, "foreign_origin"),
        ({"Sec-Fetch-Site": "cross-site"}, "foreign_origin"),
        ({"Sec-Fetch-Site": "same-site"}, "foreign_origin"),
    ],
)
async def test_pages_of_others_are_refused_on_every_path(gateway: Door, headers: dict[str, str], code: str) -> None:
    for path in ("/healthz", "/v1/sessions/main", "/nothing"):
        refused = await gateway.get(path, headers=headers)
        assert (refused.status, refused.code) == (421 if code == "wrong_host" else 403, code)


async def test_a_link_to_the_page_may_be_followed_from_anywhere_and_nothing_else(gateway: Door) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await gateway.get("/", headers=link, token="")).status == 200
    for path, changed in [
        ("/v1/sessions", {}), ("/healthz", {}),
        ("/", {"Sec-Fetch-Dest": "iframe"}), ("/", {"Sec-Fetch-Mode": "no-cors"}),
    ]:  # fmt: skip
        assert (await gateway.get(path, headers=link | changed)).code == "foreign_origin"


async def test_our_own_names_are_answered(service: Service) -> None:
    async with door(service, hosts=("agent.example.org",)) as opened:
        port = opened.url.rpartition(":")[2]
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "AGENT.example.org", "127.0.0.1"):
            assert (await opened.get("/healthz", headers={"Host": host})).status == 200, host
        same = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}", "Sec-Fetch-Site": "same-origin"}
        assert (await opened.get("/healthz", headers=same)).status == 200


async def test_every_answer_carries_an_id_and_no_permission_for_others(gateway: Door) -> None:
    for path, token in (("/healthz", ""), ("/v1/sessions/x", None), ("/v1/sessions/x", ""), ("/nothing", "")):
        given = await gateway.get(path, token=token, headers={"X-Request-ID": "mine-1"})
        made = await gateway.get(path, token=token, headers={"X-Request-ID": "bad id\t!"})
        assert given.headers["X-Request-ID"] == "mine-1"
        assert len(made.headers["X-Request-ID"]) == 32
        assert made.headers["X-Content-Type-Options"] == "nosniff"
        assert not any(name.startswith("Access-Control") for name in made.headers)
        assert "Set-Cookie" not in made.headers


async def test_a_listed_proxy_with_the_secret_names_a_person(service: Service) -> None:
    trusted = {"trusted_proxies": ("127.0.0.0/8",), "proxy_secret": "s3cret-of-the-proxy", "token": "t" * 20}
    person = {"X-Forwarded-User": "Ada@example.org", "X-Proxy-Secret": "s3cret-of-the-proxy"}
    async with door(service, **trusted) as opened:
        mine = await opened.say("api/ada-at-example.org/x", "hello", token="", headers=person)
        other = await opened.say("main", "hello", token="", headers=person)
        no_secret = await opened.say(
            "api/ada-at-example.org/x", "hello", token="", headers={**person, "X-Proxy-Secret": ""}
        )
        odd = await opened.say("x", "hello", token="", headers={**person, "X-Forwarded-User": "../../x"})
    async with door(service, **{**trusted, "trusted_proxies": ("10.0.0.0/8",)}) as opened:
        unlisted = await opened.say("api/ada-at-example.org/x", "hello", token="", headers=person)
    assert (mine.status, other.status, no_secret.status, odd.status, unlisted.status) == (200, 403, 401, 403, 401)


@pytest.mark.parametrize("name", ["owner", "OWNER", "ada-at-example.org"])
async def test_a_proxys_person_is_no_token_and_no_other_person(service: Service, name: str) -> None:
    trusted = {"trusted_proxies": ("127.0.0.1",), "proxy_secret": "s3cret-of-the-proxy", "token": "t" * 20}
    headers = {"X-Forwarded-User": name, "X-Proxy-Secret": "s3cret-of-the-proxy"}
    async with door(service, **trusted) as opened:
        assert (await opened.get("/v1/sessions", token="", headers=headers)).code == "bad_identity"


def test_a_proxy_that_is_no_network_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="trusted_proxies"):
        GatewaySettings(trusted_proxies=("10.0.0.0/33",))


def test_a_token_with_padding_is_one_token() -> None:
    assert tokens_of("bG9uZyBlbm91Z2ggdG9rZW4=\n", "file")[0].name == "owner"


def test_up_makes_one_private_token_and_keeps_it(tmp_path: Path) -> None:
    path = make_token(tmp_path)
    first = path.read_text()
    assert make_token(tmp_path).read_text() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(first.strip()) >= 40
    assert path.name == TOKEN_FILE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("short\n", "at least 16"),
        ("[tokens.a]\ntoken='0123456789abcdef'\nscope=['read']\n", "scope is no field"),
        ("[tokens.a]\ntoken='0123456789abcdef'\nscopes=['write']\n", "write is no scope"),
        ("[tokens.a]\n", "needs either token"),
        ("[tokens.a]\nsha256='12'\n", "needs either token"),
        ("[tokens.A]\ntoken='0123456789abcdef'\n", "a name is"),
        ("[tokens]\n", "holds no"),
        ("[tokens.a]\ntoken='0123456789abcdef'\n[tokens.b]\ntoken='0123456789abcdef'\n", "same token"),
        ("[tokens.a]\ntoken='0123456789abcdef'\nscopes='read'\n", "list of texts"),
    ],
)
def test_a_bad_token_file_is_refused_without_showing_a_token(text: str, words: str) -> None:
    with pytest.raises(BadSettings, match=words) as error:
        tokens_of(text, "tokens.toml")
    assert "0123456789abcdef" not in str(error.value)


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = token_file(tmp_path / "tokens")
    os.chmod(path, 0o640)
    with pytest.raises(BadSettings, match="chmod 600"):
        Tokens(GatewaySettings(token_file=path), tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a file of root's")
@pytest.mark.parametrize(("mode", "group", "good"), [(0o440, 1000, True), (0o440, 1001, False), (0o444, 1000, False)])
def test_a_token_file_that_kubernetes_mounts_for_our_group_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, group: int, good: bool
) -> None:
    """`fsGroup` makes 0440 of a Secret's 0400, and it belongs to root."""
    path = token_file(tmp_path / "tokens")
    os.chown(path, 0, group)
    path.chmod(mode)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", lambda: [1000])
    if good:
        assert {one.name for one in Tokens(GatewaySettings(token_file=path), tmp_path).known()} >= {"reader", "phone"}
    else:
        with pytest.raises(BadSettings, match="chmod 600"):
            Tokens(GatewaySettings(token_file=path), tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "agent.example.org"])
def test_an_open_address_without_a_token_of_ones_own_is_refused(host: str) -> None:
    with pytest.raises(BadSettings, match="no token is set"):
        refuse_open_without_token(GatewaySettings(host=host))
    refuse_open_without_token(GatewaySettings(host=host, token="0123456789abcdef"))  # type: ignore[arg-type]
    refuse_open_without_token(GatewaySettings())


KEYS = st.text("ab/.", min_size=1, max_size=8)


@given(st.lists(KEYS, max_size=3), KEYS)
def test_a_name_of_ones_own_always_leads_to_a_session_that_one_reaches(prefixes: list[str], named: str) -> None:
    access = Access(name="phone", digest=b"", prefixes=tuple(prefixes))
    assert access.reaches(access.key_for(named))


@given(st.text(max_size=40), st.text(max_size=40))
def test_only_the_very_token_is_known(known: str, presented: str) -> None:
    found = access_of([Access(name="a", digest=digest_of(known))], presented)
    assert (found is not None) == (known.encode("utf-8", "replace") == presented.encode("utf-8", "replace"))


def test_admin_may_all_and_others_only_theirs() -> None:
    admin, reader = (Access(name="x", digest=b"", scopes=frozenset({scope})) for scope in ("admin", "read"))
    assert all(admin.may(scope) for scope in SCOPES)
    assert [scope for scope in SCOPES if reader.may(scope)] == ["read"]


async def test_nothing_of_a_token_is_logged(gateway: Door, caplog: Any, capsys: Any) -> None:
    await gateway.get("/v1/sessions/x")
    await gateway.get(f"/v1/sessions/x?t={gateway.token}", token="wrong-token-0123456789")
    seen = caplog.text + "".join(capsys.readouterr())
    assert gateway.token not in seen
    assert "wrong-token-0123456789" not in seen

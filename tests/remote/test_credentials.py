"""A token goes to the gateway that it was configured for, and to no other; where it came from decides."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_session.gateway import address
from agent_session.gateway.address import Announcement, announced, read_gateway
from agent_session.gateway.tokens import make_token
from agent_session.remote.target import Target, normal_url, target_of
from agent_session.settings import BadSettings, load_settings
from tests.remote.support import token_file

A, B = "https://a.example", "https://b.example"
FLAG, ENVIRONMENT, CONFIG = "flag-token-0123456789", "env-token-0123456789", "config-token-0123456789"
PIN = "ab" * 32


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Target]:
    """What a command takes, given flags, environment and config.toml; each by the names of `gateway.*`."""

    def ask(flags: dict[str, Any] | None = None, environment: dict[str, str] | None = None, config: str = "") -> Target:
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        (data / "config.toml").write_text(f"[gateway]\n{config}\n")
        for name, value in (environment or {}).items():
            monkeypatch.setenv(f"AGENT_SESSION_GATEWAY__{name.upper()}", value)
        return target_of(load_settings({"data_dir": data, "gateway": flags or {}}))

    return ask


@pytest.fixture
def flag_file(tmp_path: Path) -> Path:
    return token_file(tmp_path / "flag-token", FLAG)


IN_CONFIG = f'url = "{A}"\ntoken = "{CONFIG}"'
IN_ENVIRONMENT = {"url": A, "token": ENVIRONMENT}
TOKEN_ALONE = {"token": ENVIRONMENT}

USED = [  # flags, environment, config.toml -> URL and token
    ({}, {}, IN_CONFIG, (A, CONFIG)),
    ({}, IN_ENVIRONMENT, "", (A, ENVIRONMENT)),
    ({}, IN_ENVIRONMENT, IN_CONFIG, (A, ENVIRONMENT)),
    ({}, {"url": B, "token": ENVIRONMENT}, IN_CONFIG, (B, ENVIRONMENT)),
    ({}, TOKEN_ALONE, IN_CONFIG, (A, ENVIRONMENT)),  # a stronger token for the URL that is in force
    ({}, {"url": A}, IN_CONFIG, (A, CONFIG)),
    ({"url": A}, {}, IN_CONFIG, (A, CONFIG)),
    ({"url": f"{A.upper().replace('HTTPS', 'https')}:443/"}, {}, IN_CONFIG, (A, CONFIG)),
    ({"url": A}, IN_ENVIRONMENT, "", (A, ENVIRONMENT)),
    ({"url": B, "token_file": FLAG}, IN_ENVIRONMENT, IN_CONFIG, (B, FLAG)),
    ({"token_file": FLAG}, {}, IN_CONFIG, (A, FLAG)),
    ({"token_file": FLAG}, IN_ENVIRONMENT, IN_CONFIG, (A, FLAG)),
]


@pytest.mark.parametrize(("flags", "environment", "config", "expected"), USED)
def test_the_strongest_token_that_is_for_the_url_is_used(
    asked: Callable[..., Target],
    flag_file: Path,
    flags: dict[str, Any],
    environment: dict[str, str],
    config: str,
    expected: tuple[str, str],
) -> None:
    given = {name: flag_file if name == "token_file" else value for name, value in flags.items()}
    target = asked(given, environment, config)
    assert (target.url, target.token) == expected


REFUSED = [
    ({"url": B}, {}, IN_CONFIG),
    ({"url": B}, IN_ENVIRONMENT, ""),
    ({"url": B}, TOKEN_ALONE, ""),
    ({"url": B}, TOKEN_ALONE, IN_CONFIG),
    ({"url": B}, {}, f'token = "{CONFIG}"'),
    ({}, {"url": B}, IN_CONFIG),
    ({}, {"url": B}, f'token = "{CONFIG}"'),  # what the gateway of this data directory asks for
    ({"url": "https://a.example:444"}, {}, IN_CONFIG),
    ({"url": "https://a.example/other"}, {}, IN_CONFIG),
    ({"url": A}, {}, ""),
]


@pytest.mark.parametrize(("flags", "environment", "config"), REFUSED)
def test_a_token_for_another_gateway_is_never_used(
    asked: Callable[..., Target], flags: dict[str, Any], environment: dict[str, str], config: str
) -> None:
    with pytest.raises(BadSettings, match="there is no token for") as refused:
        asked(flags, environment, config)
    assert "--token-file" in str(refused.value)
    assert CONFIG not in str(refused.value)
    assert ENVIRONMENT not in str(refused.value)


def test_a_pin_and_leave_for_plain_http_go_with_their_url(asked: Callable[..., Target], flag_file: Path) -> None:
    pinned = f'{IN_CONFIG}\ntls_fingerprint = "{PIN}"'
    assert asked({}, {}, pinned).fingerprint == bytes.fromhex(PIN)
    assert asked({"url": B, "token_file": flag_file}, {}, pinned).fingerprint == b""
    assert asked({"url": B, "token_file": flag_file}, {}, f'tls_fingerprint = "{PIN}"').fingerprint == bytes.fromhex(
        PIN
    )
    plain = f'url = "http://a.example"\ntoken = "{CONFIG}"\nallow_plain_http = true'
    assert asked({}, {}, plain).url == "http://a.example"
    with pytest.raises(BadSettings, match="in clear"):
        asked({"url": "http://b.example", "token_file": flag_file}, {}, plain)


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1", "http://localhost.example.org", "http://127.0.0.1.example", "http://127.1"]
)
def test_a_token_goes_in_clear_to_loopback_only(asked: Callable[..., Target], flag_file: Path, url: str) -> None:
    with pytest.raises(BadSettings, match="in clear"):
        asked({"url": url, "token_file": flag_file})
    for loopback in ("http://127.0.0.1:18790", "http://[::1]:18790", "http://localhost:18790"):
        assert asked({"url": loopback, "token_file": flag_file}).token == FLAG
    assert asked({"url": url, "token_file": flag_file}, {"allow_plain_http": "true"}).url == url


@pytest.mark.parametrize("pin", [PIN, PIN.upper(), ":".join(["AB"] * 32)])
def test_a_fingerprint_is_read_with_and_without_colons(asked: Callable[..., Target], pin: str) -> None:
    assert asked({}, {**IN_ENVIRONMENT, "tls_fingerprint": pin}).fingerprint == bytes.fromhex(PIN)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({**IN_ENVIRONMENT, "tls_fingerprint": "abc"}, "64 hex digits"),
        ({"url": "http://127.0.0.1:1", "token": ENVIRONMENT, "tls_fingerprint": PIN}, "has no TLS"),
        ({"url": "ftp://a.example", "token": ENVIRONMENT}, "no gateway's address"),
        ({"url": "a.example", "token": ENVIRONMENT}, "no gateway's address"),
        ({"url": "https://a.example?x=1", "token": ENVIRONMENT}, "no gateway's address"),
        ({"url": "https://a.example:port", "token": ENVIRONMENT}, "is no URL"),
        ({"url": f"https://me:{ENVIRONMENT}@a.example"}, "user name or password"),
        ({"url": A, "token": "line\nbreak-0123456789"}, "characters"),
        ({"url": A, "token_file": "/nowhere/at/all"}, "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_said_without_a_token(
    asked: Callable[..., Target], given: dict[str, str], words: str
) -> None:
    with pytest.raises(BadSettings, match=words) as refused:
        asked({}, given)
    assert "0123456789" not in str(refused.value)


def test_a_token_file_is_private_and_holds_one_token(asked: Callable[..., Target], tmp_path: Path) -> None:
    path = token_file(tmp_path / "token", f"# of the phone\n\n{FLAG}")
    assert asked({"url": A, "token_file": path}).token == FLAG
    for text in (f"{FLAG}\n{CONFIG}", "[tokens.phone]\ntoken = 'x'", "", "x" * 5_000):
        with pytest.raises(BadSettings, match="one token on one line") as refused:
            asked({"url": A, "token_file": token_file(path, text)})
        assert FLAG not in str(refused.value)
    token_file(path, FLAG).chmod(0o644)
    with pytest.raises(BadSettings, match="chmod 600"):
        asked({"url": A, "token_file": path})


def test_two_tokens_in_one_place_are_refused(asked: Callable[..., Target], flag_file: Path) -> None:
    with pytest.raises(BadSettings, match="keep one of them"):
        asked({}, {}, f'{IN_CONFIG}\ntoken_file = "{flag_file}"')


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_gateway_of_this_data_directory_needs_no_token_file(
    asked: Callable[..., Target], tmp_path: Path, port: int
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    token = make_token(data).read_text().strip()
    with announced(data, f"http://127.0.0.1:{port}"):
        assert asked({"url": f"http://127.0.0.1:{port}/"}).token == token
        assert asked({"url": f"http://127.0.0.1:{port}"}, {}, f'token = "{CONFIG}"').token == CONFIG
        with pytest.raises(BadSettings, match="there is no token"):
            asked({"url": f"http://127.0.0.1:{port + 1}"})
    assert not (data / "gateway.json").exists()


def test_the_address_of_a_gateway_that_has_died_gets_no_token(asked: Callable[..., Target], tmp_path: Path) -> None:
    """Somebody else may listen there by now, and even have its process id."""
    data = tmp_path / "data"
    data.mkdir()
    make_token(data)
    with announced(data, "http://127.0.0.1:18790"):
        left = (data / "gateway.json").read_bytes()
    (data / "gateway.json").write_bytes(left)
    with pytest.raises(BadSettings, match="there is no token"):
        asked({"url": "http://127.0.0.1:18790"})


def test_the_gateway_of_another_machine_on_the_same_volume_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with announced(tmp_path, "http://127.0.0.1:18790"):
        assert read_gateway(tmp_path) is not None
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        assert read_gateway(tmp_path) is None


async def test_an_older_gateway_is_found_again_when_the_newer_one_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address, "LOOK_S", 0.02)
    older, newer = Announcement(tmp_path, "http://127.0.0.1:1"), Announcement(tmp_path, "http://127.0.0.1:2")
    keeping = asyncio.create_task(older.keep())
    async with asyncio.timeout(10):
        await found_at(tmp_path, "http://127.0.0.1:1")
        newer.announce()
        await found_at(tmp_path, "http://127.0.0.1:2")
        newer.withdraw()
        await found_at(tmp_path, "http://127.0.0.1:1")
        keeping.cancel()
        await asyncio.wait([keeping])
    assert read_gateway(tmp_path) is None


async def found_at(data_dir: Path, url: str) -> None:
    while (found := read_gateway(data_dir)) is None or found.url != url:
        await asyncio.sleep(0.01)


def test_the_address_that_openais_clients_take_is_the_same_gateway() -> None:
    assert normal_url("http://127.0.0.1:18790/v1/") == normal_url("http://127.0.0.1:18790")


def test_a_target_does_not_show_its_token(asked: Callable[..., Target]) -> None:
    assert ENVIRONMENT not in repr(asked({}, IN_ENVIRONMENT))


@given(st.sampled_from(["http", "https"]), st.sampled_from(["a.example", "[::1]", "10.0.0.1"]), st.integers(1, 65535))
def test_a_url_has_one_spelling(scheme: str, host: str, port: int) -> None:
    once = normal_url(f"{scheme}://{host.upper()}:{port}/x/")
    assert normal_url(once) == once == normal_url(f" {scheme}://{host}:{port}/x ")

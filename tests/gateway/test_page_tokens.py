"""Codes and tokens of the page as signed statements: any gateway of the volume reads them, a code counts once over
all of them, and nobody else can make, change or reuse one."""

import base64
import hashlib
import hmac
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import orjson
import pytest

from agent_session.domain.authority import sign_place
from agent_session.gateway import page_tokens
from agent_session.gateway.access import SCOPES, Access, digest_of
from agent_session.gateway.errors import Problem
from agent_session.gateway.page_tokens import (
    CLOCKS_S,
    CODE_S,
    EXCHANGES_A_MINUTE,
    LONGEST,
    PAGE_TOKEN_S,
    USED_FOLDER,
    PageTokens,
)
from agent_session.transcript.volume import KEY_FILE, Volume, VolumeUnavailable

EVERYTHING = frozenset(SCOPES)
ADA, BEN = (Access(name=name, digest=digest_of(f"{name}-token-0123456789")) for name in ("ada", "ben"))
KNOWN = (ADA, BEN)


class Clock:
    """The time that all machines agree on, unless a test says otherwise."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    made = Volume(tmp_path / "data")
    made.create()
    return made


@pytest.fixture
def gateways(volume: Volume, clock: Clock) -> tuple[PageTokens, PageTokens]:
    """Two processes on one volume, as far as their memory goes."""
    return PageTokens(volume, None, clock), PageTokens(Volume(volume.root), None, clock)


def token_of(pages: PageTokens, code: str) -> str:
    found = pages.exchange(code, KNOWN)
    assert found is not None
    return found[0]


def marks(volume: Volume) -> list[str]:
    folder = volume.root / USED_FOLDER
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_any_gateway_exchanges_a_code_and_knows_a_token(
    volume: Volume, gateways: tuple[PageTokens, ...], clock: Clock
) -> None:
    one, other = gateways
    found = other.exchange(one.issue(ADA, frozenset({"read", "send"})), KNOWN)
    assert found is not None
    token, access = found
    for pages in (one, other, PageTokens(volume, None, clock)):  # the last has just started
        assert pages.access_of(token, KNOWN) == access
    assert (access.name, access.scopes, access.prefixes) == ("ada", {"read", "send"}, ADA.prefixes)
    assert access.digest == digest_of(token) != ADA.digest


def test_a_code_counts_once_over_all_gateways_and_their_restarts(
    volume: Volume, gateways: tuple[PageTokens, ...], clock: Clock
) -> None:
    one, other = gateways
    code = one.issue(ADA, EVERYTHING)
    assert one.exchange(code, KNOWN)
    assert [pages.exchange(code, KNOWN) for pages in (one, other, PageTokens(volume, None, clock))] == [None] * 3


def test_of_exchanges_at_the_same_moment_one_wins(gateways: tuple[PageTokens, ...]) -> None:
    barrier = Barrier(8)

    def exchange(pages: PageTokens, code: str) -> bool:
        barrier.wait(30)
        return pages.exchange(code, KNOWN) is not None

    with ThreadPoolExecutor(8) as pool:
        for _ in range(25):
            code = gateways[0].issue(ADA, EVERYTHING)
            won = [pool.submit(exchange, pages, code) for pages in gateways * 4]
            assert sum(one.result(60) for one in won) == 1


def test_codes_and_tokens_run_out(gateways: tuple[PageTokens, ...], clock: Clock) -> None:
    one, other = gateways
    code, late = one.issue(ADA, EVERYTHING), one.issue(ADA, EVERYTHING)
    clock.now += CODE_S - 1
    token = token_of(other, code)
    clock.now += 1
    assert other.exchange(late, KNOWN) is None
    clock.now += PAGE_TOKEN_S - 2
    assert one.access_of(token, KNOWN)
    clock.now += 1
    assert one.access_of(token, KNOWN) is None


def test_what_comes_from_a_token_ends_with_it_and_loses_what_it_loses(gateways: tuple[PageTokens, ...]) -> None:
    """I10"""
    one, other = gateways
    code, token = one.issue(ADA, EVERYTHING), token_of(one, one.issue(ADA, EVERYTHING))
    less = replace(ADA, scopes=frozenset({"read"}), prefixes=("team",))
    found = other.access_of(token, (less, BEN))
    assert found is not None
    assert (found.scopes, found.prefixes) == ({"read"}, ("team",))
    renewed = replace(ADA, digest=digest_of("ada-has-another-token"))
    assert other.access_of(token, (renewed, BEN)) is None
    assert other.exchange(code, (renewed, BEN)) is None
    assert other.access_of(token, ()) is None


def test_rights_that_a_token_gains_are_not_its_pages(gateways: tuple[PageTokens, ...]) -> None:
    reader = replace(ADA, scopes=frozenset({"read"}))
    token = token_of(gateways[0], gateways[0].issue(reader, reader.scopes))
    found = gateways[1].access_of(token, KNOWN)  # ADA has every scope now
    assert found is not None
    assert found.scopes == {"read"}


def test_nothing_that_was_changed_opens(gateways: tuple[PageTokens, ...]) -> None:
    one, _ = gateways
    code = one.issue(ADA, frozenset({"read"}))
    token = token_of(one, code)
    for place in range(len(token)):
        for other in {chr(ord(token[place]) ^ 1), token[place].swapcase(), "é", ""} - {token[place]}:
            assert one.access_of(token[:place] + other + token[place + 1 :], KNOWN) is None, (place, other)
    for changed in (f"{token}=", f"{token} ", f" {token}", token.upper(), "page1.", "page1..", "", "x" * (LONGEST + 1)):
        assert one.access_of(changed, KNOWN) is None
    for place in range(len(code)):  # also no other spelling of a code that was used
        assert one.exchange(code[:place] + chr(ord(code[place]) ^ 1) + code[place + 1 :], KNOWN) is None


def test_more_rights_or_time_cannot_be_written_into_a_token(gateways: tuple[PageTokens, ...]) -> None:
    one, _ = gateways
    kind, payload, signature = token_of(one, one.issue(ADA, frozenset({"read"}))).split(".")
    until, _, id = orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    for wanted in ([until, ["admin"], id], [until + 9_999_999, ["read"], id]):
        forged = base64.urlsafe_b64encode(orjson.dumps(wanted)).decode().rstrip("=")
        assert one.access_of(f"{kind}.{forged}.{signature}", KNOWN) is None


def test_what_is_signed_for_one_purpose_is_worth_nothing_for_another(
    volume: Volume, gateways: tuple[PageTokens, ...]
) -> None:
    one, _ = gateways
    code = one.issue(ADA, EVERYTHING)
    token = token_of(one, one.issue(ADA, EVERYTHING))
    assert one.access_of(code, KNOWN) is None
    assert one.access_of(code.replace("code1", "page1"), KNOWN) is None
    assert one.exchange(token, KNOWN) is None
    assert one.exchange(token.replace("page1", "code1"), KNOWN) is None
    key, (text, _, _) = volume.signing_key(), token.rpartition(".")
    place = sign_place(key, ADA.digest.hex(), text)
    whole = hmac.new(key, ADA.digest + text.encode(), hashlib.sha256).hexdigest()  # under no key of its own
    for signature in (place, place * 2, whole, hmac.new(key, text.encode(), hashlib.sha256).hexdigest()):
        assert one.access_of(f"{text}.{signature}", KNOWN) is None


def test_another_volumes_tokens_open_nothing_here(
    tmp_path: Path, gateways: tuple[PageTokens, ...], clock: Clock
) -> None:
    elsewhere = Volume(tmp_path / "other")
    elsewhere.create()
    theirs = PageTokens(elsewhere, None, clock)
    assert gateways[0].access_of(token_of(theirs, theirs.issue(ADA, EVERYTHING)), KNOWN) is None


def test_a_replaced_signing_key_ends_every_page(
    volume: Volume, gateways: tuple[PageTokens, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = gateways
    token = token_of(one, one.issue(ADA, EVERYTHING))
    assert other.access_of(token, KNOWN)
    (volume.root / KEY_FILE).write_bytes(b"k" * 64)
    monkeypatch.setattr(page_tokens, "KEY_KEPT_S", 0)
    assert [pages.access_of(token, KNOWN) for pages in gateways] == [None, None]
    assert other.access_of(token_of(one, one.issue(ADA, EVERYTHING)), KNOWN)


def test_an_empty_key_signs_nothing(volume: Volume, gateways: tuple[PageTokens, ...]) -> None:
    (volume.root / KEY_FILE).write_bytes(b"\n")
    with pytest.raises(VolumeUnavailable, match="empty"):
        gateways[0].issue(ADA, EVERYTHING)


def test_a_volume_that_is_away_uses_up_no_code_and_signs_nobody_out(
    volume: Volume, gateways: tuple[PageTokens, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_tokens, "KEY_KEPT_S", 0)
    one, other = gateways
    code, token = one.issue(ADA, EVERYTHING), token_of(one, one.issue(ADA, EVERYTHING))
    away = volume.root.with_name("away")
    os.rename(volume.root, away)
    with pytest.raises(VolumeUnavailable):
        one.exchange(code, KNOWN)
    with pytest.raises(VolumeUnavailable):
        one.issue(ADA, EVERYTHING)
    assert one.access_of(token, KNOWN), "it knows the key"
    with pytest.raises(VolumeUnavailable):
        other.access_of(token, KNOWN)  # it has yet to read it: not the token's fault
    volume.root.mkdir()  # an empty mount point
    with pytest.raises(VolumeUnavailable):
        one.exchange(code, KNOWN)
    assert os.listdir(volume.root) == []
    volume.root.rmdir()
    os.rename(away, volume.root)
    assert other.exchange(code, KNOWN)
    assert one.exchange(code, KNOWN) is None


@pytest.mark.parametrize("planted", ["file", "link"])
def test_marks_are_made_in_a_folder_of_ours_alone(
    volume: Volume, gateways: tuple[PageTokens, ...], tmp_path: Path, planted: str
) -> None:
    path = volume.root / USED_FOLDER
    path.write_text("") if planted == "file" else path.symlink_to(tmp_path)
    code = gateways[0].issue(ADA, EVERYTHING)
    with pytest.raises(VolumeUnavailable):
        gateways[0].exchange(code, KNOWN)
    path.unlink()
    assert gateways[0].exchange(code, KNOWN)


def test_a_mark_that_is_not_durable_is_taken_back(
    volume: Volume, gateways: tuple[PageTokens, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = gateways
    assert one.exchange(one.issue(ADA, EVERYTHING), KNOWN)
    code, before = one.issue(ADA, EVERYTHING), marks(volume)

    def fails(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(page_tokens.os, "fsync", fails)
        with pytest.raises(VolumeUnavailable):
            one.exchange(code, KNOWN)
    assert marks(volume) == before
    assert other.exchange(code, KNOWN)


def test_the_volume_keeps_no_secret_and_soon_no_mark(
    volume: Volume, gateways: tuple[PageTokens, ...], clock: Clock
) -> None:
    one, other = gateways
    code = one.issue(ADA, EVERYTHING)
    token = token_of(one, code)
    for path in volume.root.rglob("*"):
        held = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
        for part in (*code.split("."), *token.split(".")):
            assert part.encode() not in held, path
    payload = base64.urlsafe_b64decode(token.split(".")[1] + "==")
    assert ADA.digest.hex().encode() not in payload, "who holds it cannot try guesses of the token it comes from"
    (first,) = marks(volume)
    (volume.root / USED_FOLDER / ".nfs0001").write_text("")
    clock.now += CODE_S + CLOCKS_S
    token_of(other, one.issue(ADA, EVERYTHING))
    assert first in marks(volume), "to a machine whose clock is late the code has not ended yet"
    clock.now += 1
    token_of(other, one.issue(ADA, EVERYTHING))
    assert first not in marks(volume)
    assert ".nfs0001" in marks(volume), "not ours to remove"


def test_a_machine_whose_clock_is_late_does_not_take_a_code_twice(
    volume: Volume, gateways: tuple[PageTokens, ...], clock: Clock
) -> None:
    late_clock = Clock()
    late = PageTokens(volume, None, late_clock)
    code = gateways[0].issue(ADA, EVERYTHING)
    token_of(gateways[0], code)
    clock.now += CODE_S + CLOCKS_S - 1
    token_of(gateways[0], gateways[0].issue(BEN, EVERYTHING))  # sweeps
    assert late.exchange(code, KNOWN) is None


def test_one_token_cannot_fill_the_volume_nor_hold_up_another(
    volume: Volume, gateways: tuple[PageTokens, ...], clock: Clock
) -> None:
    for number in range(EXCHANGES_A_MINUTE):
        token_of(gateways[number % 2], gateways[0].issue(ADA, EVERYTHING))
    clock.now += 30
    code = gateways[0].issue(ADA, EVERYTHING)
    for pages in gateways:
        with pytest.raises(Problem) as refused:
            pages.exchange(code, KNOWN)
        assert (refused.value.status, refused.value.code) == (429, "too_many_exchanges")
        assert int(refused.value.headers["Retry-After"]) > 0
    assert len(marks(volume)) == EXCHANGES_A_MINUTE
    token_of(gateways[1], gateways[0].issue(BEN, EVERYTHING))
    clock.now += 31
    assert gateways[1].exchange(code, KNOWN), "the code was not used up"


def test_the_longest_code_and_token_fit_where_they_are_taken(gateways: tuple[PageTokens, ...]) -> None:
    code = gateways[0].issue(ADA, EVERYTHING)
    assert max(len(code), len(token_of(gateways[0], code))) <= 200  # what earlier versions' bodies hold

"""The contract of a channel, kept by every one that we ship and by the postbox; and what breaks it is refused."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

import channels
from agent_session.domain.outbound import Outbound
from agent_session.settings import BadSettings, load_settings
from channels import BadChannel, channel_names, delivered_by_workers, load_channel, missing, run_by_themselves
from channels.base import Capabilities
from tests.channels.system_support import POSTBOX, install_channel
from tests.contracts.channel import check_channel, check_found, check_source
from tests.support import Service


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install the postbox as a package, with the entry point that is given."""
    found = channels._factories

    def install(entry_point: str = POSTBOX) -> None:
        site = tmp_path / "site"
        install_channel(site, entry_point)
        monkeypatch.setattr(sys, "path", [str(site), *sys.path])
        found.cache_clear()

    yield install
    found.cache_clear()


@pytest.mark.parametrize("name", channel_names())
async def test_every_channel_is_there_when_nothing_is_set_up_and_says_what_it_lacks(tmp_path: Path, name: str) -> None:
    await check_found(name, load_settings({"data_dir": tmp_path}))


async def test_the_postbox_keeps_the_contract(
    installed: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: Service
) -> None:
    installed()
    monkeypatch.delenv("POSTBOX_DIR", raising=False)
    settings = service.settings
    await check_found("postbox", settings)
    assert missing("postbox", settings) == "set POSTBOX_DIR to the folder of the letters"
    assert "postbox" not in [*run_by_themselves(settings), *delivered_by_workers(settings)]
    monkeypatch.setenv("POSTBOX_DIR", str(tmp_path))
    channel = await check_found("postbox", settings)
    assert missing("postbox", settings) == ""
    assert "postbox" in run_by_themselves(settings)
    assert "postbox" not in delivered_by_workers(settings)

    def posted() -> list[str]:
        path = tmp_path / "ada.posted"
        return [orjson.loads(line)[1] for line in path.read_bytes().splitlines()] if path.exists() else []

    await check_channel(channel, place="ada", bad_places=["", "../x", "a b"], posted=posted)
    await check_source(channel, service.client, listens_s=0.1)


def test_workers_deliver_for_channels_that_have_no_source_of_their_own(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path})
    assert "file" in delivered_by_workers(settings)
    assert "cli" not in delivered_by_workers(settings), "nothing is pushed to a terminal"
    assert not {"cli", "file"} & set(run_by_themselves(settings))


def test_a_package_that_cannot_be_loaded_is_refused_by_name(installed: Callable[..., None]) -> None:
    installed("pigeon = nowhere:create")
    with pytest.raises(BadChannel, match=r"channel 'pigeon' \(nowhere:create\) cannot be loaded"):
        channel_names()


def test_a_route_that_cannot_be_used_is_said_when_its_channel_is_loaded_and_names_the_key() -> None:
    settings: Any = SimpleNamespace(data_dir=Path("/"), file=SimpleNamespace(routes={"dm:": "main"}))
    with pytest.raises(BadSettings, match=r"file\.routes: 'dm:' names nothing behind its colon"):
        load_channel("file", settings)


class Source:
    """A channel that only listens, in a way of its own."""

    name, capabilities = "source", Capabilities(receives=True)

    def __init__(self, run: Callable[[], Any]) -> None:
        self._run = run

    async def run(self, client: Any) -> None:
        await self._run()

    def check_place(self, place: str) -> None: ...

    async def deliver(self, out: Outbound) -> None: ...

    async def probe(self) -> str:
        return ""


async def test_a_source_that_fails_or_does_not_let_itself_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.contracts.channel.STOPS_S", 0.2)
    over = asyncio.Event()

    async def fails() -> None:
        raise OSError("no network")

    async def stays() -> None:
        while not over.is_set():
            try:
                await over.wait()
            except asyncio.CancelledError:
                continue

    with pytest.raises(AssertionError, match="a source that works"):
        await check_source(Source(fails), None, 0.1)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="a cancel ends it"):
        await check_source(Source(stays), None, 0.1)  # type: ignore[arg-type]
    over.set()

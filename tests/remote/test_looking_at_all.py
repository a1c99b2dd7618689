"""Commands that look at every session print the same through a gateway. On a Temporal server of their own: beside
sessions of other tests, which come and go and have no worker, nothing would be the same twice."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_session.ops.embedded import EmbeddedTemporal
from tests.remote.support import Shell, both
from tests.support import Service, fresh_key, until_true


@pytest.fixture
async def temporal_address(tmp_path: Path) -> AsyncIterator[str]:
    server = EmbeddedTemporal(None, tmp_path / "temporal.log")
    await server.start()
    yield server.address
    await server.stop(0)


async def until_listed(service: Service, *keys: str) -> None:
    async def listed() -> bool:
        return set(keys) <= {row.key for row in await service.client.sessions()}

    await until_true(listed)


async def test_looking_shows_the_same(here: Shell, there: Shell, asking: Service) -> None:
    key = fresh_key("look/ü")
    await asking.ask(key, "run echo one; echo two >&2")
    await asking.ask(key, "remember ünïcode \u2028 and \\ and 😀")
    await asking.until(key, lambda status: status.state == "idle" and status.turns == 2)
    await until_listed(asking, key)
    for arguments in (
        ("status",), ("status", key), ("status", key, "--json"), ("sessions",), ("sessions", "--json"),
        ("sessions", "--all", "--json"), ("history", key), ("history", key, "--json"), ("approvals", "list"),
        ("approvals", "list", key, "--json"),
    ):  # fmt: skip
        local, remote = await both(here, there, *arguments)
        assert (remote.code, remote.out) == (local.code, local.out) == (0, local.out), (arguments, remote.err)
    assert len((await there.run("history", key, "--json")).out.rstrip("\n").split("\n")) == len(asking.lines(key))


async def test_a_session_that_cannot_be_asked_by_this_way_does_not_hide_the_others(
    there: Shell, asking: Service
) -> None:
    key = fresh_key()
    await asking.ask("{key}", "remember blue")
    await asking.ask(key, "remember green")
    await until_listed(asking, key, "{key}")
    listed = await there.run("status")
    assert listed.code == 0, listed.err
    assert any(line.startswith("{key} · live") for line in listed.out.splitlines()), listed.out
    assert any(line.startswith(key) for line in listed.out.splitlines())

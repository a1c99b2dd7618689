"""How long the gateway keeps a connection for its next request: `gateway.keep_alive_s`, as it serves."""

import asyncio
import time
from pathlib import Path

import pytest

from agent_session.gateway.serve import serve
from agent_session.settings import BadSettings, load_settings
from tests.support import Service


async def kept_s(service: Service, keep_alive_s: float, at_most_s: float) -> float:
    """Seconds from an answer to the end of its connection; `at_most_s` when it is still open then."""
    gateway = type(service.settings.gateway)(port=0, keep_alive_s=keep_alive_s)
    settings = service.settings.model_copy(update={"gateway": gateway})
    stop, url = asyncio.Event(), asyncio.get_running_loop().create_future()
    address = service.temporal.service_client.config.target_host
    serving = asyncio.create_task(
        serve(settings, stop, lambda words: url.set_result(words.rpartition(" ")[2]), address)
    )
    try:
        await asyncio.wait([serving, url], return_when=asyncio.FIRST_COMPLETED, timeout=30)
        host, _, port = (await asyncio.wait_for(url, 30)).removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        answered = time.monotonic()
        try:
            async with asyncio.timeout(at_most_s):
                await reader.read()
        except TimeoutError:
            return at_most_s
        finally:
            writer.close()
        return time.monotonic() - answered
    finally:
        stop.set()
        await serving


async def test_a_connection_is_kept_as_long_as_the_setting_says_and_no_longer(service: Service) -> None:
    assert await kept_s(service, 1.0, 30) < 30
    assert await kept_s(service, 600.0, 3) == 3


def test_the_default_is_longer_than_what_load_balancers_wait_by_default(tmp_path: Path) -> None:
    assert load_settings({"data_dir": tmp_path}).gateway.keep_alive_s > 60


@pytest.mark.parametrize("bad", ["0", "-1", "nan", "86400"])
def test_a_bad_time_is_refused_by_its_name(bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SESSION_GATEWAY__KEEP_ALIVE_S", bad)
    with pytest.raises(BadSettings, match="keep_alive_s"):
        load_settings({"data_dir": tmp_path})

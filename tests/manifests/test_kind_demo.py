"""The story of `make kind-demo`, played with processes in place of pods: everything but kubectl is what runs there."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from agent_session.transcript.volume import Volume
from scripts.kind_demo import Cannot, answers, bounce, until
from tests.manifests.stand_ins import Processes, free_port, slow_page

TOKEN = "a-token-for-the-bounce-demo"


async def test_a_turn_ends_on_another_worker_when_its_own_is_killed(temporal_address: str, tmp_path: Path) -> None:
    runner = web.AppRunner(slow_page())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    page, port = f"127.0.0.1:{runner.addresses[0][1]}", free_port()
    Volume(tmp_path / "data").create()
    cluster = Processes(
        {
            "AGENT_SESSION_DATA_DIR": str(tmp_path / "data"),
            "AGENT_SESSION_TEMPORAL__ADDRESS": temporal_address,
            "AGENT_SESSION_TASK_QUEUE": "kind-demo",
            "AGENT_SESSION_TOOLS__WEB__PRIVATE_HOSTS": page,
            "AGENT_SESSION_GATEWAY__PORT": str(port),
            "AGENT_SESSION_GATEWAY__TOKEN": TOKEN,
        }
    )
    try:
        for name in ("worker-a", "worker-b"):
            cluster.start(name, "worker", log=tmp_path / name)
        cluster.start("gateway", "gateway", log=tmp_path / "gateway")
        url = f"http://127.0.0.1:{port}"
        await asyncio.to_thread(until, lambda: answers(url), "the gateway answers", 60)
        record = await asyncio.to_thread(bounce, cluster, url, TOKEN, f"http://{page}", 6)
    finally:
        cluster.stop()
        await runner.cleanup()
    assert {record["killed"]["worker"], record["finished"]["worker"]} == {"worker-a", "worker-b"}
    assert record["finished"]["attempt"] == 2
    assert record["seconds_until_elsewhere"] < 20
    assert (record["status"], record["calls"], record["results"]) == ("answered", 1, 1)


def test_what_never_comes_is_said() -> None:
    with pytest.raises(Cannot, match="not seen within 0 s: the page"):
        until(lambda: None, "the page", 0)

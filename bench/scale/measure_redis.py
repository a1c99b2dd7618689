"""What a streamed turn costs Redis: commands, bytes, CPU; with nobody who watches, and with one and ten watchers."""

import asyncio
import shutil
from contextlib import AsyncExitStack

from pydantic import SecretStr

from agent_session.client import SessionClient
from agent_session.connection import connect
from agent_session.live.redis_connection import redis_address
from agent_session.ops.embedded import free_port
from agent_session.settings import load_settings
from bench.scale.figures import Figure, rounded
from bench.scale.measure_turns import Measured
from bench.world import Sides, World, fresh

TOKENS, TURNS = 100, 10


async def messages(world: World) -> Measured:
    """Turns of 100 tokens, 5 ms apart."""
    binary = shutil.which("redis-server")
    assert binary, "redis-server is not installed: apt install redis-server"
    port = free_port()
    server = await asyncio.create_subprocess_exec(
        binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
        "--dir", str(world.folder), stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    url = f"redis://127.0.0.1:{port}/0"
    found: dict[str, Figure] = {}
    try:
        async with world.sides(floors=0, LIVE__URL=url) as both:
            settings = load_settings(
                {
                    "data_dir": world.data_dir,
                    "temporal": {"address": world.address},
                    "task_queue": both.settings.task_queue,
                    "live": {"url": url},
                },
                config=world.folder / "none.toml",
            )
            client = SessionClient(await connect(settings), settings, channel="bench")
            for watchers in (0, 1, 10):
                key = fresh("stream")
                await both.turn(key)
                spent = await _spent(url, both, client, key, watchers)
                how = f"INFO of Redis over {TURNS} turns of {TOKENS} tokens, {watchers} watchers"
                for name, (value, unit) in spent.items():
                    found[f"redis.{watchers}_watchers.{name}"] = Figure(rounded(value), unit, how)
    finally:
        server.terminate()
        await server.wait()
    return found, {}


async def _spent(url: str, both: Sides, client: SessionClient, key: str, watchers: int) -> dict[str, tuple[float, str]]:
    """Of one turn; its events beside the tokens (start, end) are among them."""
    async with AsyncExitStack() as stack:
        for _ in range(watchers):
            ready = asyncio.Event()
            listening = asyncio.create_task(_listen(client, key, ready))
            stack.callback(listening.cancel)
            await ready.wait()
        before = await _info(url)
        for _ in range(TURNS):
            await both.turn(key, f"stream {TOKENS}")
        await asyncio.sleep(0.3)
        after = await _info(url)
    spent = {name: (after[name] - before[name]) / TURNS for name in after}
    return {
        "publishes": (spent["calls"], "commands/turn"),
        "bytes_in": (spent["total_net_input_bytes"], "B/turn"),
        "bytes_out": (spent["total_net_output_bytes"], "B/turn"),
        "cpu_s": (spent["used_cpu_user"] + spent["used_cpu_sys"], "s/turn"),
    }


async def _listen(client: SessionClient, key: str, ready: asyncio.Event) -> None:
    async for _ in client.events(key, ready):
        pass


async def _info(url: str) -> dict[str, float]:
    connection = redis_address(SecretStr(url)).connection(5.0)
    try:
        (raw,) = await connection.call(("INFO", "everything"))
    finally:
        await connection.close()
    lines = dict(line.partition(":")[::2] for line in raw.decode().splitlines() if ":" in line)
    wanted = ("total_net_input_bytes", "total_net_output_bytes", "used_cpu_user", "used_cpu_sys")
    calls = lines.get("cmdstat_evalsha", "calls=0,").partition("calls=")[2].partition(",")[0]
    return {name: float(lines[name]) for name in wanted} | {"calls": float(calls)}

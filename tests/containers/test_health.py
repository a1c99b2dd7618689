"""A container's life: healthy, ill, stopped, killed."""

import asyncio
import time

from tests.containers.bounce import until
from tests.containers.world import Container, Http, World

STOPPED_S = 25.0  #: it is killed after 30


async def health(container: Container) -> int:
    """The exit code of the image's own health check."""
    engine = container.engine
    if engine.name == "podman":
        return (await asyncio.to_thread(engine.try_to, "healthcheck", "run", container.name)).returncode
    return (await asyncio.to_thread(engine.try_to, "exec", container.name, "healthy")).returncode


async def test_a_worker_is_healthy_while_its_loop_turns_and_ill_while_it_does_not(world: World) -> None:
    worker = await world.worker(1)

    async def well() -> bool:
        return await health(worker) == 0

    await until(well, 30, "the worker is healthy")
    paused = "for one in /proc/[0-9]*; do grep -qsa '^Name:.*agent-session' $one/status && kill -{0} ${{one##*/}}; done"
    await asyncio.to_thread(world.engine.try_to, "exec", worker.name, "sh", "-c", paused.format("STOP"))
    assert await health(worker) != 0
    await asyncio.to_thread(world.engine.try_to, "exec", worker.name, "sh", "-c", paused.format("CONT"))
    await until(well, 30, "the worker is healthy again")


async def test_a_gateway_is_healthy_and_ready_only_with_a_worker(world: World) -> None:
    gateway = await world.gateway()
    http = Http(f"http://127.0.0.1:{world.gateway_port}", world.token)
    try:

        async def well() -> bool:
            return await health(gateway) == 0

        await until(well, 30, "the gateway is healthy")
        status, why = await http.get("/readyz")
        assert (status, why["temporal"], why["volume"], why["worker"]) == (503, True, True, False)
        await world.worker(1)
        await http.until_ready()
    finally:
        await http.close()


async def test_a_worker_that_is_told_to_stop_drains_and_ends_with_zero(world: World) -> None:
    """The init hands SIGTERM on: without one, process 1 would ignore it and be killed."""
    worker = await world.worker(1)

    async def well() -> bool:
        return await health(worker) == 0

    await until(well, 30, "the worker is healthy")
    began = time.monotonic()
    await asyncio.to_thread(world.engine, "stop", "--time", "30", worker.name)
    took_s = time.monotonic() - began
    assert worker.state()["exit_code"] == 0, worker.logs()
    assert took_s < STOPPED_S


async def test_a_health_check_without_anything_to_ask_says_so(world: World) -> None:
    worker = await world.start("quiet", "worker", AGENT_SESSION_TELEMETRY__LISTEN="")
    done = await asyncio.to_thread(world.engine.try_to, "exec", worker.name, "healthy")
    assert done.returncode == 1
    assert "telemetry.listen is off" in done.stdout

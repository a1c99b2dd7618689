"""I7: a session of an older worker version moves to the current one at its next turn boundary."""

from collections.abc import Callable
from typing import Any

from tests.deploys.test_what_is_refused import build, deployment_of
from tests.support import Service, check_transcript, fresh_key


async def test_a_pinned_session_moves_to_the_new_version_and_loses_nothing(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    name, key = fresh_key("d"), fresh_key()
    deployment = deployment_of(service, name)
    async with service.worker(settings=build(service, name, "one")):
        await deployment.make_current("one", wait_s=30)
        await service.ask(key, "remember one")
        await service.until(key, lambda status: status.build_id == "one")
        async with service.worker(settings=build(service, name, "two")):
            await deployment.make_current("two", wait_s=30)
            await service.ask(key, "remember two")
            await service.ask(key, "remember three")
            status = await service.until(key, lambda status: status.build_id == "two")
            assert status.roll_overs >= 1
    async with service.worker(settings=build(service, name, "two")):
        assert "one" in (await service.ask(key, "what did I say?")).text
    check_transcript(service.lines(key))

"""I7: a session of an older worker version moves to the current one at its next turn boundary."""

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

from temporalio.api.workflowservice.v1 import (
    DescribeWorkerDeploymentRequest,
    SetWorkerDeploymentCurrentVersionRequest,
)
from temporalio.service import RPCError

from agent_session.settings import Settings
from tests.support import Service, check_transcript, fresh_key


def build(service: Service, deployment: str, build_id: str) -> Settings:
    worker = service.settings.worker.model_copy(update={"deployment": deployment, "build_id": build_id})
    return service.settings.model_copy(update={"worker": worker})


async def make_current(service: Service, deployment: str, build_id: str) -> None:
    """As a deploy step does: never a worker."""
    api = service.temporal.workflow_service
    async with asyncio.timeout(30):
        while True:
            try:
                await api.describe_worker_deployment(
                    DescribeWorkerDeploymentRequest(namespace="default", deployment_name=deployment)
                )
                await api.set_worker_deployment_current_version(
                    SetWorkerDeploymentCurrentVersionRequest(
                        namespace="default", deployment_name=deployment, build_id=build_id, identity="deploy"
                    )
                )
                return
            except RPCError:
                await asyncio.sleep(0.2)


async def test_a_pinned_session_moves_to_the_new_version_and_loses_nothing(make_service: Callable[..., Any]) -> None:
    service: Service = await make_service()
    deployment, key = f"d-{uuid.uuid4().hex[:8]}", fresh_key()
    async with service.worker(settings=build(service, deployment, "one")):
        await make_current(service, deployment, "one")
        await service.ask(key, "remember one")
        assert (await service.client.status(key)).build_id == "one"
        async with service.worker(settings=build(service, deployment, "two")):
            await make_current(service, deployment, "two")
            await asyncio.sleep(1)
            await service.ask(key, "remember two")
            await service.ask(key, "remember three")
            status = await service.until(key, lambda status: status.build_id == "two")
            assert status.roll_overs >= 1
    async with service.worker(settings=build(service, deployment, "two")):
        assert "one" in (await service.ask(key, "what did I say?")).text
    check_transcript(service.lines(key))

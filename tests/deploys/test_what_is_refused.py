"""A deploy step that could not end well is not begun; it says what is wrong and what to do."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig

from agent_session.domain.ids import workflow_id
from agent_session.ops.deploy.drain import Drain
from agent_session.ops.deploy.versions import BadDeploy, DeployFailed, Deployment
from agent_session.settings import BadSettings, Settings
from agent_session.transcript.volume import MARKER
from agent_session.worker import session_worker
from tests.deploys.support import Site, site_of
from tests.support import Service, fresh_key


def build(service: Service, deployment: str, build_id: str) -> Settings:
    worker = service.settings.worker.model_copy(update={"deployment": deployment, "build_id": build_id})
    return service.settings.model_copy(update={"worker": worker})


def deployment_of(service: Service, name: str, task_queue: str = "") -> Deployment:
    return Deployment(service.temporal, name, task_queue or service.settings.task_queue)


def drain_of(deployment: Deployment, build_id: str, **how: Any) -> Drain:
    given = {"timeout_s": 30, "per_second": 100, "gone": False, "say": print, **how}
    return Drain(deployment, build_id, **given)


@asynccontextmanager
async def two_builds(service: Service, name: str) -> AsyncIterator[Deployment]:
    """A worker each of one and two, in this process; one is current."""
    deployment = deployment_of(service, name)
    async with service.worker(settings=build(service, name, "one")):
        await deployment.make_current("one", wait_s=30)
        async with service.worker(settings=build(service, name, "two")):
            async with asyncio.timeout(30):
                while len((await deployment.look(count=False)).versions) < 2:
                    await asyncio.sleep(0.1)
            yield deployment


async def test_a_drain_that_could_not_end_is_not_begun(make_service: Callable[..., Any]) -> None:
    service, name = await make_service(), fresh_key("d")
    with pytest.raises(BadDeploy, match="knows no deployment"):
        await drain_of(deployment_of(service, name), "one").run()
    async with two_builds(service, name) as deployment:
        await service.ask(fresh_key(), "remember me")
        with pytest.raises(BadDeploy, match=r"no build 'nine' \(known: "):
            await drain_of(deployment, "nine").run()
        with pytest.raises(BadDeploy, match="'one' is the current version"):
            await drain_of(deployment, "one").run()
        await deployment.ramp("two", 10, wait_s=30)
        with pytest.raises(BadDeploy, match="'two' is ramping"):
            await drain_of(deployment, "two").run()
        await deployment.make_current("two", wait_s=30)
        elsewhere = deployment_of(service, name, "a-queue-that-nobody-polls")
        with pytest.raises(BadDeploy, match="no worker of the current version 'two' polls"):
            await drain_of(elsewhere, "one").run()
        assert (await drain_of(deployment, "one").run()).left == ()
        assert (await drain_of(deployment, "one").run()).moved == 0, "once more does no harm"


async def test_nothing_becomes_current_that_nobody_polls_for(make_service: Callable[..., Any]) -> None:
    service, name = await make_service(), fresh_key("d")
    async with two_builds(service, name) as deployment:
        for step in (deployment.make_current("nine", wait_s=0), deployment.ramp("nine", 5, wait_s=0)):
            with pytest.raises(BadDeploy, match=f"worker.deployment={name} and worker.build_id=nine"):
                await step
        elsewhere = deployment_of(service, name, "a-queue-that-nobody-polls")
        with pytest.raises(BadDeploy, match="no worker of build 'two' polls"):
            await elsewhere.make_current("two", wait_s=0)
        for percent in (-1, 101):
            with pytest.raises(BadDeploy, match="is no percentage"):
                await deployment.ramp("two", percent, wait_s=0)
        with pytest.raises(BadDeploy, match="is the current version already"):
            await deployment.ramp("one", 5, wait_s=0)
        assert await deployment.make_current("one", wait_s=0) == "one", "it is already: nothing to do"


@workflow.defn
class Half:
    """All that the half-started worker of the next test has."""

    @workflow.run
    async def run(self) -> None:
        """Nothing."""


async def test_a_build_that_does_not_poll_for_activities_yet_becomes_current_once_it_does(
    make_service: Callable[..., Any],
) -> None:
    """Temporal hears of a worker's polls one by one, and refuses a version that it has heard only half of."""
    service, key, name = await make_service(), fresh_key(), fresh_key("d")
    deployment, marker = deployment_of(service, name), service.settings.data_dir / MARKER
    version = WorkerDeploymentVersion(deployment_name=name, build_id="two")
    config = WorkerDeploymentConfig(
        version=version, use_worker_versioning=True, default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE
    )
    async with service.worker(settings=build(service, name, "one")):
        await deployment.make_current("one", wait_s=30)
        marker.rename(marker.with_suffix(".away"))
        await service.client.send(key, "hello", id="a")
        await tried_again(service, key)
        async with Worker(
            service.temporal,
            task_queue=service.settings.task_queue,
            workflows=[Half],
            workflow_runner=UnsandboxedWorkflowRunner(),
            deployment_config=config,
        ):
            await polled(deployment, "two")
            for step in (partial(deployment.make_current, "two"), partial(deployment.ramp, "two", 5)):
                with pytest.raises(DeployFailed, match=r"Temporal refuses: .*missing active task queues"):
                    await step(wait_s=1)
            waiting = asyncio.create_task(deployment.make_current("two", wait_s=30))
            async with service.worker(settings=build(service, name, "two")):
                assert await waiting == "one"
                marker.with_suffix(".away").rename(marker)
                assert (await service.client.await_reply(key, "a", timeout_s=30)).ok


async def polled(deployment: Deployment, build_id: str) -> None:
    """Temporal knows a worker of the build: else the step waits for one, and says that there is none."""
    async with asyncio.timeout(30):
        while True:
            with suppress(BadDeploy):
                if (await deployment.look(count=False)).version(build_id).workers:
                    return
            await asyncio.sleep(0.1)


async def tried_again(service: Service, key: str) -> None:
    """A session's activity has failed and waits in the task queue: one that Temporal counts as active."""
    handle = service.temporal.get_workflow_handle(workflow_id(key))
    async with asyncio.timeout(30):
        while all(one.attempt < 2 for one in (await handle.describe()).raw_description.pending_activities):
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("name", ["", "a:b", "a'b", 'a"b', "a\\b", "a\nb"])
async def test_a_name_that_would_break_a_query_is_refused(service: Service, name: str) -> None:
    with pytest.raises(BadDeploy, match="is no name of a deployment"):
        deployment_of(service, name)
    with pytest.raises(BadDeploy, match="is no name of a build"):
        deployment_of(service, "fine").pinned_to(name)


@pytest.mark.parametrize(("given", "missing"), [("deployment", "build_id"), ("build_id", "deployment")])
async def test_a_worker_with_half_a_version_does_not_start(service: Service, given: str, missing: str) -> None:
    """It would run as a worker of no version, and take sessions of every build."""
    assert service.services is not None
    worker = service.settings.worker.model_copy(update={given: "x"})
    service.services.settings = service.settings.model_copy(update={"worker": worker})
    with pytest.raises(BadSettings, match=f"worker.{given} is set and worker.{missing} is not"):
        session_worker(service.temporal, service.services)


async def test_the_commands_say_so_with_their_exit_codes(make_service: Callable[..., Any], tmp_path: Path) -> None:
    service: Service = await make_service()
    async with site_of(service, tmp_path / "logs") as site:
        await unnamed(site)
        async with two_builds(service, site.deployment):
            await service.ask(fresh_key(), "remember me")
            refused = await site.deploy("drain", "one")
            assert (refused.returncode, "is the current version" in refused.stderr) == (2, True)
            refused = await site.deploy("current", "nine", "--wait", "0")
            assert (refused.returncode, "known: " in refused.stderr) == (2, True)
            async with asyncio.timeout(30):  # Temporal counts sessions and workers a moment later
                while "sessions: 1 · workers: 1" not in (shown := await site.deployed("list")):
                    await asyncio.sleep(0.1)
            assert [line.split(" · ")[:2] for line in shown.splitlines()] == [["two", "inactive"], ["one", "current"]]
            assert await site.deployed("ramp", "two", "25") == "two takes 25 % of sessions\n"
            assert "two · ramping 25 %" in await site.deployed("list")
            assert await site.deployed("ramp", "two", "0") == "no build is ramping\n"
            assert "two is current (before: one)" in await site.deployed("current", "two")
            assert "two was current already" in await site.deployed("current", "two")
            assert "one is drained: 1 sessions moved" in await site.deployed("drain", "one")
            (one,) = [one for one in json.loads(await site.deployed("list", "--json"))["versions"] if one["sessions"]]
            assert one["build"] == "two"


async def unnamed(site: Site) -> None:
    """Without a name, and with one that there is not."""
    refused = await site.deploy("list")
    assert (refused.returncode, "knows no deployment" in refused.stderr) == (2, True)
    site_name, site.deployment = site.deployment, ""
    refused = await site.deploy("list")
    assert (refused.returncode, "add --deployment NAME" in refused.stderr) == (2, True)
    site.deployment = site_name

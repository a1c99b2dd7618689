"""A session that nobody talks to closes after 30 days; time is skipped by Temporal's own test server."""

import sys
from datetime import timedelta
from pathlib import Path

from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from agent_session.connection import DATA_CONVERTER
from agent_session.domain.ids import workflow_id
from agent_session.operations import load_services
from agent_session.transcript.volume import Volume
from agent_session.worker import session_worker
from tests.support import Service, fresh_key, settings_for

SERVER = Path(sys.executable).parent / "temporal-test-server"


async def test_thirty_idle_days_close_a_session_and_a_message_opens_it_again(tmp_path: Path) -> None:
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=str(SERVER), data_converter=DATA_CONVERTER
    ) as environment:
        settings = settings_for(tmp_path / "data", "unused:1")
        Volume(settings.data_dir).create()
        service, key = Service(settings, environment.client), fresh_key()
        async with session_worker(environment.client, load_services(settings)):
            await service.ask(key, "remember me")
            handle = environment.client.get_workflow_handle(workflow_id(key))
            await environment.sleep(timedelta(days=20))
            await service.ask(key, "still here")
            await environment.sleep(timedelta(days=29))
            assert (await handle.describe()).status == WorkflowExecutionStatus.RUNNING
            await environment.sleep(timedelta(days=2))
            assert (await handle.describe()).status == WorkflowExecutionStatus.COMPLETED
            assert "remember me" in (await service.ask(key, "what did I say?")).text

"""Whether a worker or a channel can do its work: Temporal answers, the volume takes a file, this very process polls.

Known before the first connection, too: then it cannot.
"""

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.client import Client

from agent_session.gateway.probe import Found, Probe
from agent_session.settings import Settings
from agent_session.transcript.volume import Volume


class Readiness:
    """One a process. `queue`: where it polls, for activities alone with `activities`; empty: it polls nothing."""

    def __init__(self, settings: Settings, queue: str, identity: str, *, activities: bool = False) -> None:
        self._volume = Volume(settings.data_dir)
        self._queue, self._identity = queue, identity
        kinds = TaskQueueType
        self._kind = kinds.TASK_QUEUE_TYPE_ACTIVITY if activities else kinds.TASK_QUEUE_TYPE_WORKFLOW
        self._probe: Probe | None = None

    def connected(self, client: Client) -> None:
        self._probe = Probe(client, self._volume, self._queue, identity=self._identity, kind=self._kind)

    async def found(self) -> Found:
        if self._probe is None:
            return Found(temporal=False, volume=False, worker=False)
        return await self._probe.found()

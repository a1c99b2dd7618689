"""What is known of each channel: from its settings, from Temporal (who takes its deliveries, how many wait), and,
when it is asked to try, from the channel itself. Changes nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from agent_session.settings import Settings
from channels import load_channel, missing

POLL_S = 75  #: a poll is renewed within it; one that has died is seen as long
PROBE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class ChannelStatus:
    """One channel. `problem` is empty for what is as it should be, also for one that is not configured."""

    name: str
    receives: bool
    delivers: bool
    can: tuple[str, ...]  #: of streams, files, decides
    missing: str  #: what it needs before it can be used; empty: configured
    task_queue: str  #: where its deliveries wait; empty when replies are not pushed to it
    pollers: tuple[str, ...] = ()  #: identities that took deliveries, or asked for some, within 75 s
    waiting: int | None = None  #: deliveries that nobody has taken yet, about; None: not known
    probe: str | None = None  #: what its own test found, empty when all is well; None: not tried
    problem: str = ""


def described(name: str, settings: Settings) -> ChannelStatus:
    """From settings alone. Errors: NoSuchChannel, BadChannel, BadSettings."""
    can = load_channel(name, settings).capabilities
    return ChannelStatus(
        name=name,
        receives=can.receives,
        delivers=can.delivers,
        can=tuple(word for word in ("streams", "files", "decides") if getattr(can, word)),
        missing=missing(name, settings),
        task_queue=f"{settings.task_queue}.channel.{name}" if can.delivers else "",
    )


async def looked_at(client: Client, settings: Settings, names: Sequence[str], *, probe: bool) -> list[ChannelStatus]:
    """Each with who polls and what waits; with `probe` also tried. Errors: as `described`; RPCError."""
    return list(await asyncio.gather(*(_look(client, settings, name, probe) for name in names)))


async def _look(client: Client, settings: Settings, name: str, probe: bool) -> ChannelStatus:
    found = described(name, settings)
    if found.delivers:
        found = await _with_queue(client, found)
    if probe and not found.missing:
        found = replace(found, probe=await _probed(name, settings))
    return replace(found, problem=_problem(found))


async def _with_queue(client: Client, found: ChannelStatus) -> ChannelStatus:
    described = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=found.task_queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            report_stats=True,
        )
    )
    now = datetime.now(UTC).timestamp()
    lately = [one.identity for one in described.pollers if now - one.last_access_time.ToSeconds() < POLL_S]
    waiting = described.stats.approximate_backlog_count if described.HasField("stats") else None
    return replace(found, pollers=tuple(sorted(lately)), waiting=waiting)


async def _probed(name: str, settings: Settings) -> str:
    try:
        async with asyncio.timeout(PROBE_S):
            return await load_channel(name, settings).probe()
    except TimeoutError:
        return f"no answer within {PROBE_S:.0f} s"
    except Exception as error:  # a channel that breaks its promise must not hide the others
        return f"the probe failed: {type(error).__name__}: {error}"[:500]


def _problem(found: ChannelStatus) -> str:
    if found.missing:
        return ""
    if found.probe:
        return found.probe
    if found.task_queue and not found.pollers:
        who = f"agent-session channels run {found.name}"
        return f"nobody takes its deliveries: start 'agent-session up', or '{who}'"
    return ""

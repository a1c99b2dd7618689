"""Temporal: reached, with its namespace and search attribute, with workers that poll, its clock beside ours."""

import asyncio
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

from temporalio.api.enums.v1 import IndexedValueType, TaskQueueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
    DescribeTaskQueueResponse,
    GetClusterInfoRequest,
    PollWorkflowTaskQueueRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from agent_session import __version__
from agent_session.connection import Unreachable, configured_address, connect, read_service
from agent_session.ops.channel_status import looked_at
from agent_session.ops.doctor.directory import runs_here
from agent_session.ops.doctor.findings import Finding, aside, failed, ok, skipped, warning, words_of
from agent_session.ops.embedded import DYNAMIC_CONFIG
from agent_session.ops.processes import processes
from agent_session.settings import BadSettings, Settings
from channels import channel_names, delivered_by_workers, run_by_themselves

NEEDS_ATTRIBUTE = "AgentSessionNeeds"
CONNECT_S, CALL = 8.0, timedelta(seconds=5)
POLLED_S = 75  #: a poll lasts a minute; one that has died is seen as long
OLD_BACKLOG_S = 60.0
CLOCK_QUEUE = "agent-session-doctor"  #: nothing is ever put there; our own poll of it shows the server's clock
SKEW_S = 2.0
OLDEST_FOR_VERSIONING = (1, 28)


async def temporal_checks(settings: Settings) -> list[Finding]:
    """All of them, or why Temporal cannot be asked. Changes nothing. Errors: none but time-outs."""
    client = await _reach(settings)
    if isinstance(client, Finding):
        return [client]
    asked = (_reached, _namespace, _attribute, _session_workers, _deliveries, _tuning, _clock)
    found = await asyncio.gather(*(one(client, settings) for one in asked), return_exceptions=True)
    findings: list[Finding] = []
    for one, check in zip(found, asked, strict=True):
        if isinstance(one, BaseException):
            name = f"temporal.{check.__name__.strip('_')}"
            findings.append(failed(name, words_of(one), "see whether Temporal is well, and what this client may do"))
        else:
            findings += one
    return findings


async def _reach(settings: Settings) -> Client | Finding:
    embedded = not configured_address(settings)
    if embedded and not await aside(lambda: runs_here(settings.data_dir)):
        return warning("temporal", f"nothing runs on {settings.data_dir}", "start it: agent-session up")
    try:
        async with asyncio.timeout(CONNECT_S):
            return await connect(settings)
    except (Unreachable, BadSettings) as error:
        todo = "see its log: agent-session logs" if embedded else "look at temporal.address and temporal.tls*"
        return failed("temporal", words_of(error), todo)
    except TimeoutError:
        where = configured_address(settings) or "the embedded server"
        todo = "see that it runs, and that no firewall or network policy drops what we send"
        return failed("temporal", f"{where} does not answer within {CONNECT_S:g} s", todo)


async def _reached(client: Client, settings: Settings) -> list[Finding]:
    about = await client.workflow_service.get_cluster_info(GetClusterInfoRequest(), timeout=CALL)
    words = (
        f"agent-session {__version__}, Python {platform.python_version()}, Temporal SDK {version('temporalio')}, "
        f"server {about.server_version} ({about.history_shard_count} history shards)"
    )
    numbers = tuple(int(part) for part in about.server_version.split(".")[:2] if part.isdigit())
    figures = {"server": about.server_version, "sdk": version("temporalio"), "shards": about.history_shard_count}
    if settings.worker.deployment and numbers < OLDEST_FOR_VERSIONING:
        todo = "update the server to 1.28 or newer, or leave worker.deployment empty"
        return [failed("versions", f"{words}: too old for worker versioning", todo, **figures)]
    return [ok("temporal", f"{client.service_client.config.target_host} answers"), ok("versions", words, **figures)]


async def _namespace(client: Client, settings: Settings) -> list[Finding]:
    check, name = "temporal.namespace", client.namespace
    try:
        found = await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=name), timeout=CALL)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            todo = f"temporal operator namespace create --namespace {name} --retention 72h"
            return [failed(check, f"there is no namespace {name!r}", todo)]
        if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED):
            return [failed(check, f"{name!r} does not let us in", "look at temporal.api_key, temporal.tls_cert_file")]
        raise
    days = found.config.workflow_execution_retention_ttl.ToTimedelta() / timedelta(days=1)
    return [ok(check, f"{name!r}, keeps closed runs for {days:g} days", retention_days=days)]


async def _attribute(client: Client, settings: Settings) -> list[Finding]:
    check = "temporal.search_attribute"
    asked = ListSearchAttributesRequest(namespace=client.namespace)
    try:
        found = await client.operator_service.list_search_attributes(asked, timeout=CALL)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:  # the namespace, which is said elsewhere
            return []
        words = f"they cannot be listed here ({error.status.name})"
        return [skipped(check, words, f"see that {NEEDS_ATTRIBUTE} (Keyword) is there")]
    if found.custom_attributes.get(NEEDS_ATTRIBUTE) == IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD:
        return [ok(check, f"{NEEDS_ATTRIBUTE} is registered")]
    todo = (
        f"temporal operator search-attribute create --namespace {client.namespace} --name {NEEDS_ATTRIBUTE} "
        "--type Keyword"
    )
    return [failed(check, f"{NEEDS_ATTRIBUTE} (Keyword) is not registered: workers refuse to start", todo)]


async def _queue(client: Client, name: str, kind: "TaskQueueType.ValueType") -> DescribeTaskQueueResponse:
    asked = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=name), task_queue_type=kind, report_stats=True
    )
    return await client.workflow_service.describe_task_queue(asked, timeout=CALL)


def _lately(found: DescribeTaskQueueResponse) -> set[str]:
    now = datetime.now(UTC).timestamp()
    return {one.identity for one in found.pollers if now - one.last_access_time.ToSeconds() < POLLED_S}


async def _session_workers(client: Client, settings: Settings) -> list[Finding]:
    check, queue = "temporal.workers", settings.task_queue
    kinds = (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY)
    found = await asyncio.gather(*(_queue(client, queue, kind) for kind in kinds))
    workers = _lately(found[0]) & _lately(found[1])
    waiting = sum(one.stats.approximate_backlog_count for one in found)
    oldest = max(one.stats.approximate_backlog_age.ToTimedelta().total_seconds() for one in found) if waiting else 0.0
    figures = {"workers": len(workers), "waiting": waiting, "oldest_s": round(oldest, 1)}
    if not workers:
        todo = "start one: agent-session worker --all-channels (or agent-session up)"
        return [failed(check, f"nobody polls {queue!r}: {waiting} tasks wait", todo, **figures)]
    words = f"{len(workers)} poll {queue!r}, {waiting} tasks wait"
    if oldest > OLD_BACKLOG_S:
        todo = "add workers, or see in their logs why they do not get on"
        return [warning(check, f"{words}, the oldest for {oldest:.0f} s", todo, **figures)]
    return [ok(check, words, **figures)]


async def _deliveries(client: Client, settings: Settings) -> list[Finding]:
    """Channels that are configured here, and deliver."""
    names = await aside(lambda: _configured(settings))
    rows = await looked_at(client, settings, names, probe=False)
    bad = [one for one in rows if one.problem]
    for one in bad:
        waits = f", {one.waiting} wait" if one.waiting else ""
        what, _, todo = one.problem.partition(": ")
        return [failed("channels.deliveries", f"{one.name}: {what}{waits}", todo or "agent-session channels status")]
    words = f"{', '.join(one.name for one in rows if one.delivers) or 'no channel'}: taken by workers that poll"
    return [ok("channels.deliveries", words, waiting=sum(one.waiting or 0 for one in rows))]


def _configured(settings: Settings) -> Sequence[str]:
    known = {*delivered_by_workers(settings), *run_by_themselves(settings)}
    return [name for name in channel_names() if name in known]


async def _tuning(client: Client, settings: Settings) -> list[Finding]:
    """A client cannot see a server's dynamic configuration; a dev server of this host shows it on its command line."""
    check = "temporal.tuning"
    port = client.service_client.config.target_host.rpartition(":")[2]
    table = await aside(processes)
    lines = [one.command for one in table.values() if " start-dev " in one.command and f"--port {port} " in one.command]
    service = read_service(settings.data_dir)
    if not lines and service is not None and not configured_address(settings):
        return [ok(check, "the embedded server is started with what we need")]
    if not lines:
        todo = "set history.transferProcessorMaxPollRPS and the others of docs/operations.md, if you have not"
        return [skipped(check, "a client cannot see the server's dynamic configuration", todo)]
    lacks = [one.partition("=")[0] for one in DYNAMIC_CONFIG[:3] if one.partition("=")[0] not in lines[0]]
    if lacks:
        todo = "start it with what docs/operations.md lists: steps take 50 ms more, and recovery 3 s"
        return [warning(check, f"the server on this host lacks {', '.join(lacks)}", todo)]
    return [ok(check, "the server on this host is tuned")]


async def _clock(client: Client, settings: Settings) -> list[Finding]:
    """The server notes when we polled, by its own clock."""
    check, me = "temporal.clock", f"doctor-{time.time_ns()}"
    polled = PollWorkflowTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=CLOCK_QUEUE), identity=me
    )
    before = time.time()
    polling = asyncio.create_task(client.workflow_service.poll_workflow_task_queue(polled, timeout=CALL))
    try:
        for _ in range(20):
            await asyncio.sleep(0.1)
            found = await _queue(client, CLOCK_QUEUE, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW)
            at = [one.last_access_time.ToNanoseconds() / 1e9 for one in found.pollers if one.identity == me]
            if at:
                return [_skew(check, at[0], before, time.time())]
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
    return [skipped(check, "the server does not say what time it is there")]


def _skew(check: str, at: float, before: float, after: float) -> Finding:
    """Somewhere between before and after it was `at` there."""
    skew = round(at - after if at > after else min(0.0, at - before), 2)
    if abs(skew) > SKEW_S:
        way = "ahead of" if skew > 0 else "behind"
        todo = "let both keep time (chrony, NTP): schedules and time-outs are the server's"
        return warning(check, f"Temporal's clock is {abs(skew):g} s {way} ours", todo, skew_s=skew)
    return ok(check, f"Temporal's clock is ours, within {max(abs(skew), after - before):.1f} s", skew_s=skew)

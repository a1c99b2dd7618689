"""Where Temporal is, and how to connect: our settings, then Temporal's own TEMPORAL_* environment and
profile file, then the `up` that owns this data directory.
"""

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

import orjson
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RPCError, TLSConfig

from agent_session.failure_converter import StrippedFailures
from agent_session.settings import BadSettings, Settings
from agent_session.telemetry import spans, switches
from agent_session.telemetry.sending import Sending

SERVICE_FILE = "service.json"
DATA_CONVERTER = replace(DataConverter.default, failure_converter_class=StrippedFailures)


class Unreachable(Exception):
    """Temporal cannot be reached; the message says where it was looked for and what to do."""


@dataclass(frozen=True)
class Service:
    """What `up` writes for others (`service.json`)."""

    address: str
    namespace: str
    task_queue: str
    pid: int


def read_service(data_dir: Path) -> Service | None:
    """The service that owns this data directory, as it last said; it may be dead by now."""
    try:
        raw = orjson.loads((data_dir / SERVICE_FILE).read_bytes())
        return Service(str(raw["address"]), str(raw["namespace"]), str(raw["task_queue"]), int(raw["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def configured_address(settings: Settings) -> str:
    """The address of a Temporal that is not ours to start; empty: the embedded one."""
    return settings.temporal.address or str(_own_configuration().get("target_host") or "")


async def connect(settings: Settings, address: str = "", *, identity: str = "") -> Client:
    """A client, measured and traced as this process is. `address`: of the embedded server, known to its own processes.
    Errors: Unreachable, BadSettings."""
    options = _options(settings, address)
    target = options.pop("target_host", "")
    if not target:
        service = read_service(settings.data_dir)
        if service is None:
            raise Unreachable(
                f"no Temporal address is set and nothing runs on {settings.data_dir}: start 'agent-session up', "
                f"or set AGENT_SESSION_TEMPORAL__ADDRESS"
            )
        target = service.address
    if identity:
        options["identity"] = identity
    options["interceptors"] = [Sending(traced=spans.set_up(settings))]
    try:
        return await Client.connect(target, data_converter=DATA_CONVERTER, runtime=_runtime(), **options)
    except (RPCError, RuntimeError, OSError) as error:
        raise Unreachable(f"Temporal at {target} cannot be reached: {_first_line(error)}") from None


async def pollers(
    client: Client,
    task_queue: str,
    *,
    within_s: float = 300,
    kind: TaskQueueType.ValueType = TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
) -> list[str]:
    """Identities that poll a task queue for tasks of that kind, as the server saw them lately; none when it does not
    answer. A poll lasts a minute, so one that has died is seen as long."""
    try:
        found = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=client.namespace,
                task_queue=TaskQueue(name=task_queue),
                task_queue_type=kind,
            )
        )
    except RPCError:
        return []
    now = datetime.now(UTC).timestamp()
    return [one.identity for one in found.pollers if now - one.last_access_time.ToSeconds() < within_s]


@cache
def _runtime() -> Runtime:
    """One a process, that keeps the SDK's own warnings off a person's terminal, and counts where that was asked for."""
    quiet = LoggingConfig(filter=TelemetryFilter(core_level="ERROR", other_level="ERROR"))
    core = switches.core_metrics
    return Runtime(telemetry=TelemetryConfig(logging=quiet, metrics=core.buffer if core is not None else None))


def _options(settings: Settings, address: str) -> dict[str, Any]:
    given = settings.temporal
    options = {} if address else dict(_own_configuration())
    if address or given.address:
        options["target_host"] = address or given.address
    if given.namespace or not options.get("namespace"):
        options["namespace"] = given.namespace or "default"
    if given.api_key.get_secret_value() and not address:
        options["api_key"] = given.api_key.get_secret_value()
    tls = _tls(settings)
    if tls is not None and not address:
        options["tls"] = tls
    return options


def _own_configuration() -> dict[str, Any]:
    if not any(name.startswith("TEMPORAL_") for name in os.environ) and not _profile_file().exists():
        return {}
    try:
        return cast(dict[str, Any], ClientConfig.load_client_connect_config())
    except Exception as error:
        raise BadSettings(f"Temporal's own configuration cannot be read: {_first_line(error)}") from None


def _profile_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "temporalio" / "temporal.toml"


def _tls(settings: Settings) -> TLSConfig | bool | None:
    given = settings.temporal
    files = (given.tls_ca_file, given.tls_cert_file, given.tls_key_file)
    if not any(files) and not given.tls_server_name:
        return given.tls
    try:
        ca, cert, key = (path.read_bytes() if path else None for path in files)
    except OSError as error:
        raise BadSettings(f"temporal.tls: {error.filename} cannot be read: {error.strerror}") from None
    return TLSConfig(
        server_root_ca_cert=ca, client_cert=cert, client_private_key=key, domain=given.tls_server_name or None
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]

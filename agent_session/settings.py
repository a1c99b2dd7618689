"""One typed settings tree: defaults < `config.toml` in the data directory < environment < flags.

Environment names are `AGENT_SESSION_` and the path joined by `__` (`AGENT_SESSION_MODEL__NAME`). An
unknown key or a bad value is one `BadSettings` that names key, value and origin; secrets are never shown.
"""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from agent_session.settings_channels import HeartbeatSettings, ScheduleSettings, SlackSettings
from agent_session.settings_part import Names, Part

PREFIX = "AGENT_SESSION_"
CONFIG_FILE = "config.toml"
PASSWORD_IN_URL = re.compile(r"(?<=://)[^/@\s]*:[^/@\s]*(?=@)")


class BadSettings(Exception):
    """Settings that cannot be used: what was wrong, where it came from, what to do."""


class TemporalSettings(Part):
    """Where Temporal is. Without an address (here, or in Temporal's own TEMPORAL_* environment and
    profile file) the embedded server of `up` is used."""

    address: str = ""
    namespace: str = ""
    ui_url: str = Field(default="", pattern=r"^(https?://\S+)?$")  #: Temporal's web UI, as people's browsers reach it
    api_key: SecretStr = SecretStr("")
    tls: bool | None = None
    tls_server_name: str = ""
    tls_ca_file: Path | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None


class ModelSettings(Part):
    name: str = ""  #: pydantic-ai's `provider:model`, or `offline`; empty: by the API key that is set
    base_url: str = ""  #: any server that speaks the provider's protocol
    max_steps: int = Field(default=40, ge=1, le=1000)
    context_tokens: int = Field(default=100_000, ge=1_000)
    max_output_tokens: int = Field(default=8_192, ge=1)
    timeout_s: int = Field(default=600, ge=1)
    attempts: int = Field(default=10, ge=1, le=100)
    instructions: str = ""  #: put before AGENTS.md; empty: ours
    requests_per_minute: int = Field(default=0, ge=0)  #: of one worker to one provider; 0: no limit
    tokens_per_minute: int = Field(default=0, ge=0)  #: likewise, input and output together
    cache: bool = True  #: mark what the provider may keep between requests


class ShellSettings(Part):
    sandbox: Literal["auto", "bubblewrap", "none"] = "auto"
    network: bool = False  #: let sandboxed commands reach the internet, never this host or its networks
    timeout_s: int = Field(default=600, ge=1)
    output_bytes: int = Field(default=1024 * 1024, ge=1024)
    processes: int = Field(default=256, ge=8)  #: of one command, in the sandbox
    memory_mb: int = Field(default=4096, ge=64)  #: of all its processes together
    file_mb: int = Field(default=1024, ge=1)  #: of one file that it writes
    tmp_mb: int = Field(default=512, ge=1)  #: of its /tmp, and of its home
    disk_reserve_mb: int = Field(default=256, ge=0)  #: it is ended when the volume has less free than this


class FilesSettings(Part):
    max_read_bytes: int = Field(default=256 * 1024, ge=1024)
    max_write_bytes: int = Field(default=1024 * 1024, ge=1024)


class WebSettings(Part):
    timeout_s: int = Field(default=30, ge=1)
    max_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)  #: of one page as it comes over the wire
    private_hosts: Names = ()  #: `host:port` that may be fetched although they are private


class ToolsSettings(Part):
    shell: ShellSettings = ShellSettings()
    files: FilesSettings = FilesSettings()
    web: WebSettings = WebSettings()
    ask: Names = ()  #: tools that ask a person first, `tool` or `tool:pattern` (`shell:git push *`); `*` for all
    off: Names = ()  #: names of tools that are not offered
    instruction_files: Names = ("AGENTS.md", "HEARTBEAT.md")  #: read-only in the sandbox; writing one asks
    attempts: int = Field(default=100, ge=1, le=1000)
    approval_timeout_s: int = Field(default=86_400, ge=1)


class SessionSettings(Part):
    turns_per_run: int = Field(default=50, ge=1, le=500)
    idle_days: int = Field(default=30, ge=1)


class VolumeSettings(Part):
    catch_up_s: float = Field(default=60.0, ge=0)  #: how long a shorter transcript than expected is waited for
    patience_s: int = Field(default=600, ge=1)  #: how long a step waits for a volume that is away


class OperationsSettings(Part):
    """Which implementation of each operation is used (entry points `agent_session.operations`), and how
    long one attempt may take."""

    build_prompt: str = "default"
    call_model: str = "default"
    run_tool: str = "default"
    record: str = "default"
    build_prompt_timeout_s: float = Field(default=30.0, gt=0)
    build_prompt_attempts: int = Field(default=3, ge=1)
    record_timeout_s: int = Field(default=60, ge=1)
    deliver_timeout_s: int = Field(default=15, ge=1)


class WorkerSettings(Part):
    heartbeat_timeout_s: int = Field(default=4, ge=2)
    graceful_stop_s: float = Field(default=5.0, ge=0)
    concurrent_activities: int = Field(default=200, ge=1)
    cached_sessions: int = Field(default=1_000, ge=0)  #: about 110 KB each
    #: Temporal worker deployment name; with `build_id`: worker versioning. Temporal's worker controller sets the
    #: variables of its own that stand here
    deployment: str = Field(default_factory=lambda: os.environ.get("TEMPORAL_DEPLOYMENT_NAME", ""))
    build_id: str = Field(default_factory=lambda: os.environ.get("TEMPORAL_WORKER_BUILD_ID", ""))
    identity: str = ""  #: shown in Temporal's UI; empty: process id and host


class GatewaySettings(Part):
    """HTTP. `url`, `token`, `token_file`, `tls_fingerprint` and `allow_plain_http` are also what client commands
    use to reach a gateway elsewhere."""

    host: str = "127.0.0.1"
    port: int = Field(default=18790, ge=0, le=65535)  #: 0: any free one
    token: SecretStr = SecretStr("")  #: one token with every right; empty: that of `token_file`, or of `up`
    token_file: Path | None = None  #: one token, or named ones with scopes and prefixes; read again when it changes
    hosts: Names = ()  #: names by which it may be asked for, beside loopback
    max_body_bytes: int = Field(default=72 * 1024 * 1024, ge=64 * 1024)
    #: seconds for a whole request head, from the connection or the last answer on; a proxy's idle timeout must be less
    keep_alive_s: float = Field(default=75.0, ge=1.0, le=4000.0)
    trusted_proxies: Names = ()  #: addresses or networks whose identity header counts

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for one in given:
            ip_network(one, strict=False)
        return given

    proxy_secret: SecretStr = SecretStr("")  #: that they send as X-Proxy-Secret; without one no proxy is trusted
    proxy_user_header: str = "X-Forwarded-User"
    proxy_scopes: Names = ("read", "send")
    proxy_prefixes: Names = ()  #: sessions that such people reach beside their own
    url: str = ""  #: of the gateway that commands talk to, instead of Temporal
    tls_fingerprint: str = ""  #: sha256 of that gateway's certificate, in hex
    allow_plain_http: bool = False  #: send the token in clear to another machine


class LiveSettings(Part):
    url: SecretStr = SecretStr("")  #: `redis://…`: progress for watchers of other machines; empty: this machine only


class LogSettings(Part):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class TelemetrySettings(Part):
    otlp_endpoint: str = ""  #: OTLP over HTTP; empty: OTEL_EXPORTER_OTLP_ENDPOINT, else off
    listen: str = ""  #: host:port where workers and channels serve health and metrics; empty: nowhere


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, env_ignore_empty=True
    )
    toml: ClassVar[dict[str, Any]] = {}  #: as config.toml has it
    flags: ClassVar[dict[str, Any]] = {}  #: as the command line has it

    data_dir: Path = Field(default_factory=lambda: default_data_dir())
    mac_key_file: Path | None = None  #: the signing key, when it is not in the data directory
    task_queue: str = "agent-session"
    temporal: TemporalSettings = TemporalSettings()
    model: ModelSettings = ModelSettings()
    tools: ToolsSettings = ToolsSettings()
    session: SessionSettings = SessionSettings()
    volume: VolumeSettings = VolumeSettings()
    operations: OperationsSettings = OperationsSettings()
    worker: WorkerSettings = WorkerSettings()
    gateway: GatewaySettings = GatewaySettings()
    live: LiveSettings = LiveSettings()
    slack: SlackSettings = SlackSettings()
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        from pydantic_settings import InitSettingsSource

        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=cls.toml)


def default_data_dir() -> Path:
    """`$XDG_DATA_HOME/agent-session`, or `~/.local/share/agent-session`."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "agent-session"


def data_dir_of(flag: Path | None = None) -> Path:
    """The data directory in force; also when nothing else of the settings can be used."""
    found = Path(flag or os.environ.get(PREFIX + "DATA_DIR") or default_data_dir())
    return found.expanduser().absolute()


def load_settings(flags: Mapping[str, Any] | None = None, *, config: Path | None = None) -> Settings:
    """Read the tree. `flags` are nested like the tree; `config` is read instead of the data directory's own
    file. Errors: BadSettings."""
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    given["data_dir"] = data_dir_of(given.get("data_dir"))
    config = config or given["data_dir"] / CONFIG_FILE
    _refuse_unknown_environment()
    from_file = _read_toml(config)
    if "data_dir" in from_file:
        raise BadSettings(f"data_dir cannot be set in the file that lies in it\n  from: {config}")

    class Loaded(Settings):
        toml: ClassVar[dict[str, Any]] = from_file
        flags: ClassVar[dict[str, Any]] = given

    try:
        return Loaded(**given)
    except ValidationError as error:
        raise BadSettings(explain(error.errors(), config)) from None
    except Exception as error:  # pydantic-settings: an environment value that is not the JSON it expects
        raise BadSettings(f"settings cannot be read: {error}") from None


def _refuse_unknown_environment() -> None:
    for name in sorted(os.environ):
        if name.startswith(PREFIX):
            first = name.removeprefix(PREFIX).split("__")[0].lower()
            if first not in Settings.model_fields:
                raise BadSettings(
                    f"{name} is no setting: known are {', '.join(sorted(Settings.model_fields))}\n"
                    f"  from: environment\n  unset it, or see docs/settings.md"
                )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadSettings(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path} is not valid TOML: {error}") from None


def explain(errors: Sequence[Mapping[str, Any]], config: Path, environment: Mapping[str, str] = os.environ) -> str:
    """What pydantic found wrong, as key, value, reason and origin; a secret's value is left out."""
    problems: list[str] = []
    for problem in errors:
        path = [str(part) for part in problem["loc"] if not isinstance(part, int)]
        key = ".".join(path)
        secret = any(word in key for word in ("key", "token", "secret", "password"))
        value = "" if secret else PASSWORD_IN_URL.sub("…", f" = {problem['input']!r}")[:120]
        what = "is no setting" if problem["type"] == "extra_forbidden" else problem["msg"]
        problems.append(f"{key}{value}: {what}\n  from: {_origin(path, config, environment)}")
    return "\n".join(problems)


def _origin(path: list[str], config: Path, environment: Mapping[str, str]) -> str:
    for depth in range(len(path), 0, -1):
        name = PREFIX + "__".join(path[:depth]).upper()
        if name in environment:
            return f"environment {name}"
    from agent_session.settings_tree import lines_of  # only when something is wrong

    try:
        lines = lines_of(config.read_text())
    except OSError:
        return "flags"
    number = next((lines[part] for n in range(len(path), 0, -1) if (part := tuple(path[:n])) in lines), 0)
    return f"{config} line {number}" if number else str(config)

"""What a process tells about itself: logs, metrics, traces, health. docs/observability.md is for people who run it.

Light to import: what is heavy is loaded where it is used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_session.settings import Settings

LOG_FOLDER = "logs"  #: of the data directory


def set_up_logging(settings: "Settings", *, process: str, to_file: bool) -> None:
    """Structured logs on stderr and, for a service of this data directory, in `logs/<process>.jsonl`
    (20 MiB at most)."""
    from agent_session.telemetry import logs

    logs.set_up(settings, process=process, to_file=to_file)

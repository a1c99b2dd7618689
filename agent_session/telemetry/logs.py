"""Logs. Every line carries the correlation id `<session>/<turn>/<step>`. They hold nothing of the conversation, but may
hold the words of a provider's or a tool's own error, which is what the error id leads to (I2, I3).
"""

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import structlog

from agent_session.settings import Settings
from agent_session.telemetry import LOG_FOLDER

LOG_BYTES, LOG_FILES = 5 * 1024 * 1024, 4


def set_up(settings: Settings, *, process: str, to_file: bool) -> None:
    """On stderr and, for a service of this data directory, in `logs/<process>.jsonl`."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    as_json: Any = structlog.processors.JSONRenderer()
    console: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    root = logging.getLogger()
    root.handlers.clear()
    root.setLevel(settings.log.level.upper())
    if to_file:
        folder = settings.data_dir / LOG_FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        root.addHandler(_handler(_file_handler(folder / f"{process}.jsonl"), shared, as_json))
    if not to_file or settings.log.format == "console":
        renderer = console if settings.log.format == "console" else as_json
        root.addHandler(_handler(logging.StreamHandler(sys.stderr), shared, renderer))
    for noisy in ("httpx", "httpx2", "openai", "anthropic"):
        logging.getLogger(noisy).setLevel("WARNING")


def _file_handler(path: Path) -> logging.Handler:
    return RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", delay=True)


def _handler(handler: logging.Handler, shared: list[Any], renderer: Any) -> logging.Handler:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    return handler

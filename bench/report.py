"""A run as a table for people and as JSON for machines. Measures nothing."""

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.numbers import HIGHER, Metric, metric_from

HEAD = ("measurement", "ours", "floor", "ratio", "goal", "")


def shown(value: float | None, unit: str = "") -> str:
    """As many digits as can be meant."""
    if value is None:
        return ""
    text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
    return f"{text} {unit}".strip()


def _goal(one: Metric) -> str:
    if one.goal is None:
        return ""
    on_value = one.goal_of == "value" or one.ratio is None
    sign = ">=" if one.better == HIGHER else "<="
    return f"{sign} {shown(one.goal, one.unit) if on_value else shown(one.goal) + 'x'}"


def _row(one: Metric) -> tuple[str, ...]:
    ratio = f"{one.ratio:.2f}" if one.ratio is not None else ""
    verdict = {True: "met", False: "MISSED", None: ""}[one.met]
    return one.name, shown(one.value, one.unit), shown(one.floor, one.unit), ratio, _goal(one), verdict


def table(metrics: Sequence[Metric]) -> str:
    """Markdown, aligned, so that it reads well as it is."""
    rows = [HEAD, *(_row(one) for one in metrics)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    notes = [f"{one.name}: {one.note}" for one in metrics if one.note]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def machine() -> dict[str, Any]:
    """Where it ran."""
    names = [line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    memory = [line.split()[1] for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal")]
    return {
        "cpus": os.cpu_count(),
        "cpu": names[0].partition(": ")[2] if names else platform.processor(),
        "memory_gb": round(int(memory[0]) / 1e6) if memory else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "temporalio": version("temporalio"),
        "load_at_start": round(os.getloadavg()[0], 1),
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def write(path: Path, about: dict[str, Any], metrics: Sequence[Metric]) -> None:
    plain = {"about": about, "metrics": [one.plain() for one in metrics]}
    path.write_text(json.dumps(plain, indent=1) + "\n")


def read(path: Path) -> list[Metric]:
    """Errors: OSError, ValueError."""
    return [metric_from(one) for one in json.loads(path.read_text())["metrics"]]

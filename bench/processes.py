"""Processes as the outside sees them: who they are, their CPU time and memory. Reads /proc, so Linux only."""

import os
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    except OSError:
        pass
    return found


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def find(words: str, below: int = 0) -> list[int]:
    """Processes below one (us) whose command line has these words; launchers only hold pipes and are left out."""
    return [
        pid
        for pid in descendants(below or os.getpid())
        if words in command_of(pid) and "launcher.py" not in command_of(pid)
    ]


def cpu_s(*pids: int) -> float:
    """User and system time that they have used so far."""
    total = 0.0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) * TICK_S
    return total


def rss_bytes(pid: int) -> int:
    """What it holds of its own: resident, without shared files."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")

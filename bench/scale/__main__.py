"""`python -m bench.scale`: print the tables of docs/scaling.md, put them there, measure, simulate, validate. Wiring."""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from bench.scale import tables
from bench.scale.figures import Inputs, read

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "scaling.md"
SIMULATED, VALIDATED = HERE / "simulated.json", HERE / "validated.json"
BEGIN, END = "<!-- table {name}: python -m bench.scale -->", "<!-- end -->"


def all_tables(figures: Inputs) -> dict[str, str]:
    """By their names in the document."""
    simulated: dict[str, Any] = json.loads(SIMULATED.read_text())
    return {
        "sizes": tables.size_table(figures),
        "turn": tables.turn_table(figures),
        "idle": tables.idle_table(figures),
        "carried": tables.carried_table(figures),
        "days": tables.days_table(simulated),
        "hours": tables.hours_table(simulated),
        "validated": tables.validated_table(json.loads(VALIDATED.read_text())),
        "assumptions": tables.assumptions_table(figures),
    }


def filled(text: str, found: dict[str, str]) -> str:
    """The document with its tables anew. Errors: ValueError when it has no place for one."""
    for name, table in found.items():
        begin = BEGIN.format(name=name)
        before, mark, rest = text.partition(begin)
        _, end, after = rest.partition(END)
        if not (mark and end):
            raise ValueError(f"the document has no place for the table {name!r}: {begin} … {END}")
        text = f"{before}{begin}\n{table}\n{END}{after}"
    return text


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.scale", description="How far the service goes (docs/scaling.md).")
    todo = parser.add_subparsers(dest="todo")
    todo.add_parser("tables", help="print them (the default)")
    todo.add_parser("write", help="put them into docs/scaling.md")
    measuring = todo.add_parser("measure", help="take the figures anew, on the real system: about 5 minutes")
    measuring.add_argument("only", nargs="*", help="families")
    days = todo.add_parser("simulate", help="the days of docs/scaling.md: some minutes")
    days.add_argument("--sessions", type=int, default=0, help="another size; printed, not kept")
    todo.add_parser("validate", help="the simulation beside the real system: about 3 minutes")
    return parser.parse_args()


def main(given: argparse.Namespace) -> None:
    if given.todo == "measure":
        from bench.scale.measure import measure

        asyncio.run(measure(given.only))
    elif given.todo == "simulate":
        _simulate(given.sessions)
    elif given.todo == "validate":
        from bench.scale.validate import validate

        found = asyncio.run(validate())
        VALIDATED.write_text(json.dumps(found, indent=1) + "\n")
        print(tables.validated_table(found))
    elif given.todo == "write":
        DOCUMENT.write_text(filled(DOCUMENT.read_text(), all_tables(read())))
    else:
        print("\n\n".join(f"{name}\n\n{table}" for name, table in all_tables(read()).items()))


def _simulate(sessions: int) -> None:
    from bench.scale.days import SESSIONS, simulated

    found = simulated(read(), sessions or SESSIONS)
    if not sessions:
        SIMULATED.write_text(json.dumps(found, indent=1) + "\n")
    print(tables.days_table(found) + "\n\n" + tables.hours_table(found))


if __name__ == "__main__":
    main(arguments())
    sys.stdout.flush()
    os._exit(0)  # the SDK's threads may outlive the interpreter's end

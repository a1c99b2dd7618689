"""`python -m bench`: measure, show, compare with the baseline. Wiring only."""

import argparse
import asyncio
import importlib
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from bench import report
from bench.check import confirmed, missing, words_of
from bench.numbers import Metric
from bench.world import World, world

BASELINE = Path(__file__).with_name("baseline.json")
#: families, in the order of the table, and the module that measures each
FAMILIES = {
    "turn": "turns",
    "throughput": "throughput",
    "history": "history",
    "long_turn": "long_turn",
    "request": "requests",
    "priority": "priority",
    "recovery": "recovery",
    "sessions": "sessions",
    "transcript": "transcripts",
    "start": "start",
}
RESULT = Path(tempfile.gettempdir()) / "agent-session-bench.json"
FAILED: list[str] = []


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench", description="Measure the service beside the floor of the same run.")
    parser.add_argument("--only", action="append", choices=FAMILIES, help="this family (again for more)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, fewer samples: under four minutes")
    parser.add_argument("--json", type=Path, default=RESULT, help="where the result goes, too; default: %(default)s")
    parser.add_argument("--check", action="store_true", help=f"fail on a repeated regression against {BASELINE.name}")
    given = parser.parse_args()
    if given.check and not BASELINE.exists():
        parser.error(f"there is no {BASELINE}: make one with python -m bench --quick --json {BASELINE}")
    return given


async def measure(here: World, family: str, quick: bool) -> list[Metric]:
    print(f"measuring {family} ...", end=" ", file=sys.stderr, flush=True)
    began = time.monotonic()
    try:
        return await importlib.import_module(f"bench.{FAMILIES[family]}").measure(here, quick)
    except Exception:  # one family that cannot be measured must not cost the others
        traceback.print_exc()
        FAILED.append(family)
        return []
    finally:
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


async def main(given: argparse.Namespace) -> int:
    about = report.machine() | {"quick": given.quick, "command": "python -m bench " + " ".join(sys.argv[1:])}
    metrics: list[Metric] = []
    async with world() as here:
        for family in given.only or FAMILIES:
            metrics += await measure(here, family, given.quick)
            report.write(given.json, about, metrics)  # a run takes long: what is measured is kept
        print(f"{report.table(metrics)}\n\nas JSON: {given.json}")
        if FAILED:
            print(f"NOT MEASURED: {', '.join(FAILED)}")
        if FAILED or not given.check:
            return len(FAILED)
        baseline = report.read(BASELINE)
        gone = missing(baseline, metrics)
        found = await confirmed(baseline, metrics, lambda family: measure(here, family, given.quick))
        print(words_of(found) or f"\nnothing is more than 20 % worse than in {BASELINE.name}")
        print("".join(f"NOT MEASURED any more: {name}\n" for name in gone), end="")
        return 1 if found or gone or FAILED else 0


if __name__ == "__main__":
    code = asyncio.run(main(arguments()))
    sys.stdout.flush()
    os._exit(code)  # the SDK's threads may outlive the interpreter's end

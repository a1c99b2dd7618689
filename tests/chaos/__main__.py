"""`python -m tests.chaos`: run, check, report. Exit: 0 nothing is wrong, 1 a violation, 2 the run could not be made.

python -m tests.chaos --messages 5000 --sessions 50 --kills 100 --seconds 900 --json chaos.json
python -m tests.chaos --check FOLDER      # judge kept evidence again
"""

import argparse
import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.chaos.checker import check
from tests.chaos.driver import Shape, run_plan
from tests.chaos.plan import make_plan
from tests.chaos.plant import PLANTS, plant
from tests.chaos.report import summary, table, words_of, write_json


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seed", type=int, default=None, help="of the plan; default: of the clock")
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument(
        "--kills", type=int, default=100, help="planned SIGKILLs of workers, beside those of other faults"
    )
    parser.add_argument("--seconds", type=float, default=900.0, help="time over which messages and faults are spread")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument(
        "--json", type=Path, help="where the result goes; default: chaos-SEED.json among the temporary files"
    )
    parser.add_argument("--keep", type=Path, help="keep the evidence in this new folder, whatever it shows")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="tamper with the evidence: the checker must find it")
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="run nothing, judge the evidence of a run")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    try:
        folder = given.check or _run(given)
    except Exception:
        traceback.print_exc()
        return 2
    if given.plant:
        plant(folder, given.plant)
    seen, verdict = check(folder)
    known = summary(seen, verdict)
    print(table(known))
    result = given.json or Path(tempfile.gettempdir()) / f"chaos-{known['seed']}.json"
    write_json(result, known, verdict)
    print(f"\nas JSON: {result}")
    if verdict.violations:
        print(
            f"\n{len(verdict.violations)} violations, seed {known['seed']}, evidence in {folder}\n{words_of(verdict)}"
        )
        return 1
    if not given.keep and not given.check:
        shutil.rmtree(folder)
    return 0


def _run(given: argparse.Namespace) -> Path:
    seed = given.seed if given.seed is not None else int(time.time())
    folder = given.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"--keep {folder} is not empty: each run has a folder of its own")
    print(f"seed {seed}, evidence in {folder}", file=sys.stderr)
    plan = make_plan(seed, given.messages, given.sessions, given.kills, given.seconds)
    for name in [name for name in os.environ if name.startswith(("AGENT_SESSION_", "TEMPORAL_"))]:
        del os.environ[name]  # a developer's own service must not reach in
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leave no mount and no process behind
    asyncio.run(run_plan(plan, Shape(workers=given.workers), folder, lambda text: print(text, file=sys.stderr)))
    return folder


if __name__ == "__main__":
    sys.exit(main())

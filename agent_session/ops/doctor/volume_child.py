"""The second process of a volume check: does what it is told by its standard input, and ends with it.

A JSON object a line: `{"act": "hold", "name": "lock"}` in, its answer out.
"""

import sys
from pathlib import Path
from typing import Any

import orjson

from agent_session.ops.doctor.findings import words_of
from agent_session.ops.doctor.volume_acts import Acts


def answer_to(acts: Acts, how: dict[str, Any]) -> dict[str, Any]:
    """What came of an act, or why it failed."""
    try:
        return acts.do(**how)
    except Exception as error:  # it is told to the other side, which knows what it means
        return {"error": words_of(error)}


def main(folder: Path) -> None:
    def say(what: dict[str, Any]) -> None:
        sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
        sys.stdout.buffer.flush()

    silent, telling = Acts(folder), Acts(folder, say)
    for line in sys.stdin.buffer:
        how = orjson.loads(line)
        number = how.pop("number", 0)
        acts = telling if how.pop("tell", False) else silent
        say({"number": number, **answer_to(acts, how)})


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The evidence folder of a run: append-only JSON lines, readable by anybody, kept when something is wrong.

    messages.jsonl  tried, accepted, error, reply: one line an event of a message
    faults.jsonl    each fault with its start and end
    progress.jsonl  when which transcript was seen to grow
    model.jsonl     each request to the model, its fault, what it was told of its calls
    slack.jsonl     what stands in Slack at the end
    status.json     what each session said of itself at the end
    effects/        one file a session, one line an effect; volume/ a copy of the data directory
    histories/      Temporal's event histories, one file a run of a session; logs/ of every process

All times are of the machine's monotonic clock, in seconds, the same for every process of the run.
"""

import json
import time
from pathlib import Path
from typing import Any

FOLDERS = ("effects", "logs", "histories")
#: what the fault driver itself writes at the end of a transcript
TORN = b'{"v":1,"seq":99999,"turn":"t-torn","role":"assistant","content":"half of a li'


class Evidence:
    """One run's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)
        self._open: dict[str, Any] = {}

    def note(self, file: str, **entry: Any) -> None:
        if file not in self._open:
            self._open[file] = (self.root / f"{file}.jsonl").open("a", buffering=1)
        self._open[file].write(json.dumps({"t": round(time.monotonic(), 3), **entry}) + "\n")

    def write(self, file: str, value: Any) -> None:
        (self.root / file).write_text(json.dumps(value, indent=1))

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; none when there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else []

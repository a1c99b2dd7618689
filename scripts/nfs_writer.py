"""Appends to a transcript as a worker does, and goes on after faults as a worker does: `nfs_lab.py` runs it in its
guests. `nfs_writer.py FOLDER WRITER LINES WITHIN_S` prints JSON: lines acknowledged, faults, the longest wait."""

import asyncio
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from agent_session.ops.doctor.volume_acts import KEY
from agent_session.transcript.lines import event_line, key_of
from agent_session.transcript.log import TranscriptLog, View, VolumeFault
from agent_session.transcript.volume import Volume, VolumeUnavailable

PAUSE_S = 0.2


async def main(folder: Path, writer: str, lines: int, within_s: float) -> None:
    faults: Counter[str] = Counter()
    acked, longest, began = 0, 0.0, time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        log = TranscriptLog(Volume(folder), KEY, pool)
        while acked < lines and time.monotonic() - began < within_s:
            line = event_line(f"t-{writer}", "note", to=acked + 1, text=writer * 40)
            since = time.monotonic()
            while True:
                try:
                    await log.append(lambda view, line=line: _once(view, line), None)
                    break
                except (VolumeFault, VolumeUnavailable) as error:
                    faults[str(error).rpartition(": ")[2]] += 1
                    await asyncio.sleep(PAUSE_S)
            acked += 1
            longest = max(longest, time.monotonic() - since)
    took = time.monotonic() - began
    sys.stdout.buffer.write(
        orjson.dumps(
            {"acked": acked, "faults": faults, "longest_s": round(longest, 1), "ms_each": round(took / acked * 1e3, 1)}
        )
    )


def _once(view: View, line: dict[str, Any]) -> None:
    """A fact stands once, also where an attempt that failed has written it all the same."""
    if not view.has(key_of(line)):
        view.append(line, 1)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
